"""Projection: finding the style and the noise with which a generator reproduces an image.

Paper: Karras et al., StyleGAN2, CVPR 2020, https://arxiv.org/abs/1912.04958 (appendix D)
Departures from the paper: images are compared pixel by pixel at several sizes, and optionally by the features of a
network, instead of by LPIPS; each layer can have its own style (W+; Abdal et al., Image2StyleGAN,
ICCV 2019, https://arxiv.org/abs/1904.03189).
Shapes: B batch, C channels, H and W height and width in pixels, S style size, L number of styles, N number of noise
inputs.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from aigc_lightning.core import keyed
from aigc_lightning.losses.feature_matching import perceptual
from torch import Tensor
from torch.nn.functional import avg_pool2d, mse_loss
from torch.optim import Adam

from aigc_stylegan.generator import SynthesisNetwork

#: The kind of a file with a projected image, for error messages.
LATENT_KIND = "a projected image"
_LR = 0.1
_RAMP_UP, _RAMP_DOWN = 0.05, 0.25  # fractions of the steps in which the learning rate rises and falls
_NOISE, _NOISY = 0.05, 0.75  # initial noise of the styles in units of their spread, and the fraction of steps with it
_REGULARIZATION = 1e5
_SMALLEST = 8  # shorter side in pixels down to which noise and images are halved
_KEY = 20204

#: Maps images (B, C, H, W) in [-1, 1] to the features of each layer, (B, ...), with gradients.
Features = Callable[[Tensor], Sequence[Tensor]]


class Step(NamedTuple):
    """The state of a search before a step, or after the last one.

    Args:
        image: (1, C, H, W), roughly in [-1, 1]; made with noisy styles except the last one.
        distance: distance from the target.
        styles: (1, S), or (1, L, S).
        noise: (1, N).
    """

    image: Tensor
    distance: float
    styles: Tensor
    noise: Tensor


def search(
    synthesis: SynthesisNetwork,
    distance: Callable[[Tensor], Tensor],
    start: Tensor,
    spread: float,
    *,
    steps: int = 1000,
    seed: int = 0,
) -> Iterator[Step]:
    """Yield the steps of a search for styles and noise, and finally the result: steps + 1 in all.

    Args:
        synthesis: frozen.
        distance: distance of an image (1, C, H, W) from the target, a differentiable scalar.
        start: initial styles, (1, S), or (1, L, S) for one style per layer.
        spread: root mean square distance of the generator's styles from their mean.
        steps: number of optimizer steps.
        seed: seed of the initial noise inputs and of the noise added to the styles.
    """
    styles = start.clone().requires_grad_()
    noise = keyed.normal((1, synthesis.num_noise), _KEY, seed).to(start).requires_grad_()
    jitter = keyed.generator(_KEY, seed, 1)
    optimizer = Adam([styles, noise], lr=_LR)
    for step in range(steps):
        time = step / steps
        optimizer.param_groups[0]["lr"] = _LR * learning_rate_share(time)
        reach = _NOISE * spread * max(0.0, 1 - time / _NOISY) ** 2
        noisy = styles + reach * torch.randn(styles.shape, generator=jitter).to(styles)
        image = _image(synthesis, noisy, noise)
        apart = distance(image)
        maps = _maps(synthesis, noise)
        optimizer.zero_grad()
        loss = apart + _REGULARIZATION * noise_regularization(maps)
        loss.backward()
        yield Step(image.detach(), apart.item(), styles.detach(), noise.detach())
        optimizer.step()
        with torch.no_grad():
            for part in _maps(synthesis, noise):  # views of the noise
                part.sub_(part.mean()).mul_(part.square().mean().rsqrt())
    with torch.no_grad():
        image = _image(synthesis, styles, noise)
        yield Step(image, distance(image).item(), styles.detach(), noise.detach())


def learning_rate_share(time: float) -> float:
    """Return the learning rate at a time from 0 to 1, relative to its maximum: linear warm-up, cosine decay to 0."""
    fall = min(1.0, (1 - time) / _RAMP_DOWN)
    return min(1.0, time / _RAMP_UP) * (0.5 - 0.5 * math.cos(math.pi * fall))


def noise_regularization(maps: Sequence[Tensor]) -> Tensor:
    """Return the squared autocorrelation of noise maps (1, 1, H, W) at all sizes, a scalar.

    Without this penalty the search would encode the image in the noise.
    """
    total = maps[0].new_zeros(())
    for part in maps:
        values = part
        while True:
            for dimension in (2, 3):
                total = total + (values * values.roll(1, dimension)).mean().square()
            if min(values.shape[2:]) <= _SMALLEST:
                break
            values = 2 * avg_pool2d(values, 2)  # 2, so that independent values keep their variance
    return total


def distance_from(target: Tensor, features: Features | None = None) -> Callable[[Tensor], Tensor]:
    """Return a function for the distance of images (1, C, H, W) from a target, a differentiable scalar.

    It is the mean squared difference of pixels, averaged over sizes halved down to 8 pixels; with features, plus the
    mean squared difference of features relative to the target's mean square, averaged over layers.

    Args:
        target: (1, C, H, W) in [-1, 1].
        features: features of a frozen network.
    """
    if features is not None:
        with torch.no_grad():
            wanted = list(features(target))
        scales = [layer.square().mean().clamp_min(1e-8).rsqrt() for layer in wanted]
        wanted = [layer * scale for layer, scale in zip(wanted, scales, strict=True)]
    sizes = _sizes(target)

    def distance(image: Tensor) -> Tensor:
        pairs = list(zip(_sizes(image), sizes, strict=True))
        total = torch.stack([mse_loss(one, other) for one, other in pairs]).mean()
        if features is None:
            return total
        found = [layer * scale for layer, scale in zip(features(image), scales, strict=True)]
        return total + perceptual(found, wanted)

    return distance


def _sizes(image: Tensor) -> list[Tensor]:
    """Return an image at its size and successively halved."""
    found = [image]
    while min(found[-1].shape[2:]) > _SMALLEST:
        found.append(avg_pool2d(found[-1], 2))
    return found


def _image(synthesis: SynthesisNetwork, styles: Tensor, noise: Tensor) -> Tensor:
    rows = styles if styles.ndim == 3 else styles[:, None].expand(-1, synthesis.num_styles, -1)
    image: Tensor = synthesis(rows, noise)
    return image


def _maps(synthesis: SynthesisNetwork, noise: Tensor) -> list[Tensor]:
    """Return the noise (1, N) as maps (1, 1, H, W), which share its memory."""
    parts = torch.split(noise, [height * width for height, width in synthesis.noise_sizes], dim=1)
    return [part.view(1, 1, *size) for part, size in zip(parts, synthesis.noise_sizes, strict=True)]
