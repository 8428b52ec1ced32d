"""Differentiable augmentation of what discriminators see.

Papers: Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, NeurIPS 2020,
https://arxiv.org/abs/2006.10738 (the policies); Karras et al., Training Generative Adversarial Networks with Limited
Data, NeurIPS 2020, https://arxiv.org/abs/2006.06676 (the adaptive probability, section 3).
Departs from the papers: the adaptive probability applies to the policies of the first paper, each drawn independently;
it stays within [0, 1].
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.errors import UserError, did_you_mean

#: Number of batches between two adjustments of the adaptive probability (Karras et al., section 3.1).
_CADENCE = 4
_SHIFT = 1 / 8  # farthest translation, as a share of the side
_HOLE = 1 / 2  # side of the square that is cut out, as a share of the side

#: Returns numbers (count, *shape) in [0, 1), such as `ImageModel.uniform`.
Uniform = Callable[..., Tensor]
#: Takes images and numbers in [0, 1), one column per draw.
Policy = Callable[[Tensor, Tensor], Tensor]


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Return images (B, C, H, W) with changed brightness, saturation and contrast.

    Args:
        images: in [-1, 1], of any float type; the result may exceed the range.
        draws: (B, 3) in [0, 1): brightness changes by -0.5 to 0.5, saturation by factors 0 to 2, contrast 0.5 to 1.5.
    """
    brightness, saturation, contrast = draws.to(images)[:, :, None, None, None].unbind(dim=1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Return images (B, C, H, W) shifted by whole pixels, up to an eighth of each side, and padded with 0.

    Args:
        images: any range.
        draws: (B, 2) in [0, 1): vertical and horizontal shift.
    """
    for dim, draw in ((2, draws[:, 0]), (3, draws[:, 1])):
        size = images.shape[dim]
        reach = round(size * _SHIFT)
        start = (draw * (2 * reach + 1)).long().clamp(max=2 * reach)  # a product can be rounded up
        rows = start[:, None] + torch.arange(size, device=images.device)
        padding = [0, 0, reach, reach] if dim == 2 else [reach, reach]
        index = rows[:, None, :, None] if dim == 2 else rows[:, None, None, :]
        images = functional.pad(images, padding).gather(dim, index.expand_as(images))
    return images


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Return images (B, C, H, W) with a rectangle of half their sides set to 0; part of it may lie outside.

    Args:
        images: any range.
        draws: (B, 2) in [0, 1): vertical and horizontal position of its centre.
    """
    inside = []
    for size, draw in zip(images.shape[-2:], draws.unbind(dim=1), strict=True):
        hole = max(round(size * _HOLE), 1)
        start = (draw * (size + 1 - hole % 2)).long() - hole // 2
        distance = torch.arange(size, device=images.device) - start[:, None]
        inside.append((distance >= 0) & (distance < hole))
    holes = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(holes, 0.0)


#: By name: the policy and how many numbers it draws per image.
POLICIES: dict[str, tuple[Policy, int]] = {"color": (color, 3), "translation": (translation, 2), "cutout": (cutout, 2)}


def check_policies(names: Sequence[str]) -> None:
    """Reject unknown policy names.

    Raises:
        UserError: there is no such policy.
    """
    for name in names:
        if name not in POLICIES:
            hint = did_you_mean(name, POLICIES) or f"Give some of {','.join(POLICIES)}."
            raise UserError(f"engine.augment_policies has {name!r}.", hint)


class Augmentation(nn.Module):
    """Augmentation of the images that a discriminator judges, with a fixed or an adaptive probability.

    Args:
        policies: names of `POLICIES`, applied in this order.
        target: the mean sign of the logits of real images that the adaptive probability aims for; None to always apply
            the augmentation.
        images: number of images over which the adaptive probability can rise from 0 to 1.
    """

    probability: Tensor  # of each policy for each image
    signs: Tensor  # sum over the logits of real images since the last change: of their signs,
    judged: Tensor  # and of 1
    seen: Tensor  # images since the last change

    def __init__(self, policies: Sequence[str], target: float | None, images: int) -> None:
        super().__init__()
        self.policies = [POLICIES[name] for name in policies]
        self.target, self.images = target, images
        # The changing state is saved with the weights, so that a resumed run continues where it was.
        adaptive = target is not None
        self.register_buffer("probability", torch.tensor(0.0 if adaptive else 1.0), persistent=adaptive)
        for name in ("signs", "judged", "seen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64), persistent=adaptive)
        self.observed = False  # in this step

    def forward(self, images: Sequence[Tensor], uniform: Uniform) -> list[Tensor]:
        """Return the images, each sample augmented with the current probability.

        Args:
            images: tensors (B, C, H, W) that are judged together, such as the two images of a pair; the i-th images
                of all tensors are augmented alike.
            uniform: returns the random numbers to use.
        """
        varied = list(images)
        draws = uniform(len(images[0]), sum(1 + count for _, count in self.policies)).to(images[0].device)
        first = 0
        for policy, count in self.policies:
            chosen = (draws[:, first] < self.probability)[:, None, None, None]
            own = draws[:, first + 1 : first + 1 + count]
            varied = [torch.where(chosen, policy(image, own), image) for image in varied]
            first += 1 + count
        return varied

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        """Record the logits of real images if the probability depends on them."""
        if self.target is None:
            return
        self.observed = True
        self.signs += real_logits.sign().sum().long()
        self.judged += real_logits.numel()

    @torch.no_grad()
    def finish_step(self, step: int, num_images: int, add_up: Callable[[Tensor], Tensor], *, updated: bool) -> None:
        """Adjust the adaptive probability when it is due.

        Args:
            step: number of batches finished before this one.
            num_images: in the batch, over all processes.
            add_up: returns the sum of a tensor over all processes.
            updated: whether a discriminator was updated in this step.

        Raises:
            UserError: the model does not report how real images are judged.
        """
        if self.target is None:
            return
        if updated and not self.observed:
            raise UserError(
                "The model does not report its logits of real images, which the adaptive augmentation needs.",
                "Use --engine.augment diff, or call self.observe_real(real_logits) in the discriminator's loss.",
            )
        self.observed = False
        self.seen += num_images
        if (step + 1) % _CADENCE == 0:
            signs, judged = add_up(torch.stack([self.signs, self.judged])).double()
            # Nothing was judged if D is updated less often than the probability.
            direction = torch.where(judged > 0, (signs / judged.clamp(min=1) - self.target).sign(), 0.0)
            moved = self.probability.double() + direction * self.seen / self.images
            self.probability.copy_(moved.clamp(0, 1))
            for count in (self.signs, self.judged, self.seen):
                count.zero_()


def augmenting_hook(augmentation: Augmentation, uniform: Uniform, active: Callable[[], bool]) -> Callable[..., Any]:
    """Return a forward pre-hook that augments all images in a network's positional arguments.

    Args:
        augmentation: applied to the images.
        uniform: returns the random numbers to use.
        active: returns whether to augment in this call.
    """

    def augment(network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        places = [place for place, value in enumerate(arguments) if _is_image(value)]
        if not places or not active():
            return None
        varied = augmentation([arguments[place] for place in places], uniform)
        changed = dict(zip(places, varied, strict=True))
        return tuple(changed.get(place, value) for place, value in enumerate(arguments))

    return augment


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.is_floating_point()
