"""Maps of the pixels by which a classifier recognises a class, and how far they can be believed.

Papers: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, https://arxiv.org/abs/1703.01365
(integrated gradients, equation 3); Selvaraju et al., Grad-CAM, ICCV 2017, https://arxiv.org/abs/1610.02391 (equations 1
and 2); Zeiler and Fergus, ECCV 2014, https://arxiv.org/abs/1311.2901 (occlusion); Petsiuk et al., RISE, BMVC 2018,
https://arxiv.org/abs/1806.07421 (deletion and insertion, section 4.1); Adebayo et al., Sanity Checks for Saliency Maps,
NeurIPS 2018, https://arxiv.org/abs/1810.03292 (weight randomisation, section 3).
Departures from the papers: deleted, occluded and initial pixels have the mean colour of the image.
Shapes: C channels, H and W height and width in pixels, K classes. Images lie in [-1, 1].
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError

_STEPS = 64  # of the integral, and of deletion and insertion
_WINDOWS = 8  # occluded windows per side, half overlapping
_BATCH = 32
_RANDOM = 1300  # key of random weights and orders

#: Logits (B, K), with gradients, of images (B, C, H, W).
Logits = Callable[[Tensor], Tensor]


class Checked(NamedTuple):
    """A map and what speaks for it.

    Args:
        map: (H, W); large where pixels speak for the class, in any scale.
        deletion: mean probability of the class while the pixels are deleted, the most important first; low is good.
        insertion: the same while they are inserted; high is good.
        randomised: rank correlation with the map of the same network with random weights; near 0 is good: a map that
            survives does not depend on what the network learned.
    """

    map: Tensor
    deletion: float
    insertion: float
    randomised: float


def attributions(model: Any, image: Tensor, target: int) -> dict[str, Checked]:
    """Return the maps of a classifier by method, with their checks, and those of a random order of pixels.

    Args:
        model: with the capability `classify`, whose `forward` returns the logits of `classify` with gradients.
        image: (C, H, W).
        target: the class.

    Raises:
        UserError: the model's `forward` does not return them.
    """
    image = image.to(model.device, model.dtype)
    with model.inference():
        _check_forward(model, image)
        random = randomised(model)
        methods: dict[str, Callable[[Any], Tensor]] = {
            "integrated gradients": lambda network: integrated_gradients(network, image, target),
            "Grad-CAM": lambda network: grad_cam(network, image, target),
            "occlusion": lambda network: occlusion(network, image, target),
        }
        found = {}
        for name, method in methods.items():
            own, other = method(model), method(random)
            found[name] = Checked(own, *deletion_insertion(model, image, target, own), rank_correlation(own, other))
        order = keyed.normal(tuple(image.shape[1:]), _RANDOM)
        found["random order"] = Checked(order, *deletion_insertion(model, image, target, order), 0.0)
    return found


def integrated_gradients(logits: Logits, image: Tensor, target: int) -> Tensor:
    """Return the attributions (H, W), summed over the channels, of an image (C, H, W) to the logit of a class.

    They sum to the difference of the logit between the image and its mean colour (completeness), but for the error of
    the midpoint rule.
    """
    base = mean_colour(image)
    shares = (torch.arange(_STEPS, device=image.device, dtype=image.dtype) + 0.5) / _STEPS
    total = torch.zeros_like(image)
    for part in shares.split(_BATCH):
        points = (base + part.view(-1, 1, 1, 1) * (image - base)).detach()
        with torch.enable_grad():
            points.requires_grad_()
            gradients = torch.autograd.grad(logits(points)[:, target].sum(), points)[0]
        total += gradients.sum(0)
    return ((image - base) * total / _STEPS).sum(0).float().cpu()


def grad_cam(network: nn.Module, image: Tensor, target: int) -> Tensor:
    """Return the class activation map (H, W) of the last convolution, not negative, of an image (C, H, W).

    Raises:
        UserError: the network has no convolution.
    """
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    handles = [layer.register_forward_hook(keep) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    try:
        with torch.enable_grad():
            score = network(image[None].detach().requires_grad_())[0, target]
            if not seen:
                raise UserError("The model has no convolutions, so there is no Grad-CAM.", "Explain another model.")
            gradients = torch.autograd.grad(score, seen[-1])[0]
    finally:
        for handle in handles:
            handle.remove()
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    coarse = (weights * seen[-1]).sum(1, keepdim=True).relu().detach().float()
    return functional.interpolate(coarse, image.shape[1:], mode="bilinear", align_corners=False)[0, 0].cpu()


def occlusion(logits: Logits, image: Tensor, target: int) -> Tensor:
    """Return how much the logit of a class falls when windows of an image (C, H, W) are hidden: (H, W)."""
    _, height, width = image.shape
    sides = max(2, 2 * height // _WINDOWS), max(2, 2 * width // _WINDOWS)
    base = mean_colour(image)
    tops = range(0, height - sides[0] // 2, sides[0] // 2)
    lefts = range(0, width - sides[1] // 2, sides[1] // 2)
    cuts = [(slice(top, top + sides[0]), slice(left, left + sides[1])) for top in tops for left in lefts]
    hidden = image.repeat(len(cuts), 1, 1, 1)
    for place, (rows, columns) in enumerate(cuts):
        hidden[place][:, rows, columns] = base
    with torch.no_grad():
        whole = logits(image[None])[0, target]
        falls = torch.cat([whole - logits(part)[:, target] for part in hidden.split(_BATCH)]).float().cpu()
    total, times = torch.zeros(height, width), torch.zeros(height, width)
    for (rows, columns), fall in zip(cuts, falls, strict=True):
        total[rows, columns] += fall
        times[rows, columns] += 1
    return total / times.clamp(min=1)


def deletion_insertion(logits: Logits, image: Tensor, target: int, order: Tensor) -> tuple[float, float]:
    """Return the areas under the curves of deletion and insertion, in [0, 1].

    Args:
        logits: of the classifier.
        image: (C, H, W).
        target: the class.
        order: (H, W); pixels with larger values are deleted or inserted first.
    """
    ranks = order.flatten().argsort(descending=True, stable=True).argsort().view(1, 1, *order.shape).to(image.device)
    counts = torch.linspace(0, order.numel(), _STEPS + 1, device=image.device).round().view(-1, 1, 1, 1)
    chosen, base = ranks < counts, mean_colour(image)
    areas = []
    for first, then in ((base, image), (image, base)):
        steps = torch.where(chosen, first, then)
        with torch.no_grad():
            found = torch.cat([logits(part).float().softmax(1)[:, target] for part in steps.split(_BATCH)])
        areas.append(float(torch.trapezoid(found.double()) / _STEPS))
    return areas[0], areas[1]


def randomised(model: Any) -> Any:
    """Return a copy of a model whose weights are random, with the standard deviation that each tensor had."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for number, weights in enumerate(other.parameters()):
            if weights.ndim > 1:
                noise = keyed.normal(tuple(weights.shape), _RANDOM, number).to(weights)
                weights.copy_(noise * weights.std())
    return other


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Return Spearman's rank correlation of two maps of one size; 0 if one of them is constant."""
    if min(float(first.std()), float(second.std())) == 0:
        return 0.0
    ranks = torch.stack([part.flatten().argsort(stable=True).argsort() for part in (first, second)])
    return float(torch.corrcoef(ranks.double())[0, 1])


def mean_colour(image: Tensor) -> Tensor:
    """Return the mean of an image (C, H, W) as (C, 1, 1)."""
    return image.mean(dim=(1, 2), keepdim=True)


def _check_forward(model: Any, image: Tensor) -> None:
    try:
        own = model(image[None])
        same = isinstance(own, Tensor) and torch.allclose(own.float(), model.classify(image[None]).float(), atol=1e-3)
    except (NotImplementedError, TypeError):
        same = False
    if not same:
        what = f"{type(model).__name__}'s forward() does not return the logits of classify()."
        raise UserError(what, "Explanations need its gradients: return the logits from forward().")
