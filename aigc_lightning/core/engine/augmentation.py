"""Augmentation of what discriminators see, through which gradients reach the generator.

Papers: Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, NeurIPS 2020,
https://arxiv.org/abs/2006.10738 (the policies); Karras et al., Training Generative Adversarial Networks with Limited
Data, NeurIPS 2020, https://arxiv.org/abs/2006.06676 (the adaptive probability, section 3).
Departs from the papers: the adaptive probability is that of the policies of the first paper, each drawn independently;
it stays within [0, 1].
Shapes: B batch, C channels, H and W height and width in pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.errors import UserError, did_you_mean

#: Batches between two changes of the adaptive probability (Karras et al., section 3.1).
_CADENCE = 4
_SHIFT = 1 / 8  # farthest translation, as a share of the side
_HOLE = 1 / 2  # side of the square that is cut out, as a share of the side

#: Returns numbers (count, *shape) in [0, 1), such as `ImageModel.uniform`.
Uniform = Callable[..., Tensor]
#: Takes images and numbers in [0, 1), one column a draw.
Policy = Callable[[Tensor, Tensor], Tensor]


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Return images (B, C, H, W) of other brightness, saturation and contrast.

    Args:
        images: in [-1, 1], of any float type; what comes out may lie outside.
        draws: (B, 3) in [0, 1): brightness changes by -0.5 to 0.5, saturation by factors 0 to 2, contrast 0.5 to 1.5.
    """
    brightness, saturation, contrast = draws.to(images)[:, :, None, None, None].unbind(dim=1)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Return images (B, C, H, W) shifted by whole pixels, up to an eighth of each side; what comes in is 0.

    Args:
        images: any range.
        draws: (B, 2) in [0, 1): vertical and horizontal place.
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
    """Return images (B, C, H, W) with a rectangle of half their sides set to 0; a part of it may lie outside.

    Args:
        images: any range.
        draws: (B, 2) in [0, 1): vertical and horizontal place of its middle.
    """
    inside = []
    for size, draw in zip(images.shape[-2:], draws.unbind(dim=1), strict=True):
        hole = max(round(size * _HOLE), 1)
        start = (draw * (size + 1 - hole % 2)).long() - hole // 2
        distance = torch.arange(size, device=images.device) - start[:, None]
        inside.append((distance >= 0) & (distance < hole))
    holes = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(holes, 0.0)


#: By name: the policy and how many numbers it draws for an image.
POLICIES: dict[str, tuple[Policy, int]] = {"color": (color, 3), "translation": (translation, 2), "cutout": (cutout, 2)}


def check_policies(names: Sequence[str]) -> None:
    """Refuse names that are no policies.

    Raises:
        UserError: there is no such policy.
    """
    for name in names:
        if name not in POLICIES:
            hint = did_you_mean(name, POLICIES) or f"Give some of {','.join(POLICIES)}."
            raise UserError(f"engine.augment_policies has {name!r}.", hint)


class Augmentation(nn.Module):
    """What happens to the images before a discriminator judges them, and how often.

    Args:
        policies: names of `POLICIES`, applied in this order.
        target: of the adaptive probability: the mean sign of the logits of real images that it steers towards; None
            for augmentation that is always applied.
        images: number of images in which the adaptive probability can go from 0 to 1.
    """

    probability: Tensor  # of each policy for each image
    signs: Tensor  # sum over the logits of real images since the last change: of their signs,
    judged: Tensor  # and of 1
    seen: Tensor  # images since the last change

    def __init__(self, policies: Sequence[str], target: float | None, images: int) -> None:
        super().__init__()
        self.policies = [POLICIES[name] for name in policies]
        self.target, self.images = target, images
        # What changes is saved with the weights: a resumed run goes on where it was.
        adaptive = target is not None
        self.register_buffer("probability", torch.tensor(0.0 if adaptive else 1.0), persistent=adaptive)
        for name in ("signs", "judged", "seen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64), persistent=adaptive)
        self.observed = False  # in this step

    def forward(self, images: Sequence[Tensor], uniform: Uniform) -> list[Tensor]:
        """Return the images, each sample varied with the probability.

        Args:
            images: tensors (B, C, H, W) that are judged together, such as the two images of a pair; the i-th images
                of all of them get the same variation.
            uniform: gives the numbers that decide on it.
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
        """Take note of the logits of real images, where the probability depends on them."""
        if self.target is None:
            return
        self.observed = True
        self.signs += real_logits.sign().sum().long()
        self.judged += real_logits.numel()

    @torch.no_grad()
    def finish_step(self, step: int, num_images: int, add_up: Callable[[Tensor], Tensor], *, updated: bool) -> None:
        """Change the adaptive probability when it is time.

        Args:
            step: number of batches that were finished before this one.
            num_images: in the batch, over all processes.
            add_up: returns the sum of a tensor over all processes.
            updated: whether a discriminator was updated in this step.

        Raises:
            UserError: the model does not say how real images are judged.
        """
        if self.target is None:
            return
        if updated and not self.observed:
            raise UserError(
                "The adaptive augmentation does not learn how real images are judged.",
                "Use --engine.augment diff, or call self.observe_real(real_logits) in the discriminator's loss.",
            )
        self.observed = False
        self.seen += num_images
        if (step + 1) % _CADENCE == 0:
            signs, judged = add_up(torch.stack([self.signs, self.judged])).double()
            # Nothing was judged where D is updated less often than the probability.
            direction = torch.where(judged > 0, (signs / judged.clamp(min=1) - self.target).sign(), 0.0)
            moved = self.probability.double() + direction * self.seen / self.images
            self.probability.copy_(moved.clamp(0, 1))
            for count in (self.signs, self.judged, self.seen):
                count.zero_()


def augmenting_hook(augmentation: Augmentation, uniform: Uniform, active: Callable[[], bool]) -> Callable[..., Any]:
    """Return a forward pre-hook that augments all images among the positional arguments of a network.

    Args:
        augmentation: what to do.
        uniform: gives the numbers that decide on it.
        active: whether to do it in this call.
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
