"""Style transfer by optimising the pixels of an image.

Papers: Gatys, Ecker, Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016; the same and others,
Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017, https://arxiv.org/abs/1611.07865 (masks, colours,
coarse to fine).
Departures from the papers: losses relative to the style's and the photograph's own features, so that weights mean the
same for all networks and pictures; the search starts from the photograph; the differences between neighbouring pixels
are a layer of the style (`features.py`), in place of a penalty of roughness; the network sees the image twice, as it is
and mirrored with red and blue exchanged, since noise that has the style's statistics in one view seldom has them in
the other.
Shapes: C channels, H and W height and width of the photograph in pixels, h and w of a style.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from aigc_lightning.evaluation.feature_network import with_channels
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.optim import LBFGS, Adam, Optimizer

from aigc_style.features import Layers, StyleFeatures
from aigc_style.statistics import adain, content_loss, gram, gram_loss, layer_weights, moments, resized

#: Iterations between two states that are shown.
CHUNK = 5
_SMALLEST = 48  # pixels of the shorter side, below which no level of the pyramid begins
_HISTORY = 12  # updates from which L-BFGS estimates the curvature
_LR = 0.03  # of Adam
_OUTSIDE = 10.0  # weight of the squared distance of pixels from [-1, 1]
_VIEWS = ((), (1, 3))  # axes along which images (B, C, H, W) are flipped before the network sees them


class Style(NamedTuple):
    """A style to give to a photograph.

    Args:
        image: (1, 3, h, w) in [-1, 1].
        weight: relative to the other styles, which are mixed.
        mask: where this style is wanted, (1, 1, H, W) of 0 and 1; None for everywhere. Either all styles have masks or
            none has.
    """

    image: Tensor
    weight: float = 1.0
    mask: Tensor | None = None


@dataclass(frozen=True)
class Settings:
    """How a photograph is stylised.

    Args:
        steps: iterations at each level of the pyramid.
        levels: of the pyramid: with 3, the search starts at a quarter of the size. Fewer for small photographs.
        optimizer: "lbfgs" or "adam".
        content_weight: weight of the content loss relative to the style loss.
        style_scale: size of the styles' longer side relative to the photograph's: smaller for finer strokes.
        keep_colors: change the brightness only.
    """

    steps: int = 100
    levels: int = 3
    optimizer: Literal["lbfgs", "adam"] = "lbfgs"
    content_weight: float = 0.06
    style_scale: float = 1.0
    keep_colors: bool = False


class State(NamedTuple):
    """A state of the search.

    Args:
        image: (1, 3, H, W) in [-1, 1], smaller than the photograph at the first levels.
        done: iterations so far.
        style: the style loss.
        content: the content loss.
    """

    image: Tensor
    done: int
    style: float
    content: float


class Terms(NamedTuple):
    """The losses of an image, scalars with gradients."""

    total: Tensor
    style: Tensor
    content: Tensor


def num_levels(height: int, width: int, most: int) -> int:
    """Return the number of levels of the pyramid for a photograph of this size in pixels."""
    levels = 1
    while levels < most and min(height, width) >> levels >= _SMALLEST:
        levels += 1
    return levels


def stylize(photo: Tensor, styles: Sequence[Style], features: StyleFeatures, how: Settings) -> Iterator[State]:
    """Yield the states of a search for a photograph in other styles, every few iterations; the last is the result.

    Outside all masks the result is the photograph, exactly.

    Args:
        photo: (1, 3, H, W) in [-1, 1].
        styles: at least one; without masks their Gram matrices are mixed.
        features: of a frozen network.
        how: settings.
    """
    height, width = photo.shape[-2:]
    levels = num_levels(height, width, how.levels)
    values: Tensor | None = None
    for level in range(levels):
        shrink = 2 ** (levels - 1 - level)
        size = (-(-height // shrink), -(-width // shrink))
        goal = _Goal(resized(photo, size), styles, features, how)
        start = goal.start if values is None else resized(values, size)
        for values, done in _search(goal, start, how):
            terms = goal.last
            assert terms is not None
            image = goal.image(values).clamp(-1, 1)
            yield State(image, level * how.steps + done, terms.style.item(), terms.content.item())


class _Goal:
    """The losses at one level of the pyramid.

    What is optimised are all channels, or the brightness alone: (1, 3 or 1, H, W).
    """

    def __init__(self, photo: Tensor, styles: Sequence[Style], features: StyleFeatures, how: Settings) -> None:
        self.photo, self.features, self.how = photo, features, how
        self.start = with_channels(photo, 1) if how.keep_colors else photo
        self.last: Terms | None = None
        masks = [None if style.mask is None else resized(style.mask, _size(photo)).clamp(0, 1) for style in styles]
        self.changed = None if masks[0] is None else torch.stack([m for m in masks if m is not None]).amax(dim=0)
        with torch.no_grad():
            self.content = self._views(self.start)[0].content
            grams = [self._wanted(style.image) for style in styles]
        self.targets: list[tuple[Tensor | None, list[Tensor]]] = list(zip(masks, grams, strict=True))
        self.shares = layer_weights([style.weight for style in styles], len(styles))
        if self.changed is None:
            mixed = [
                torch.einsum("k,kbij->bij", photo.new_tensor(self.shares), torch.stack(layer))
                for layer in zip(*grams, strict=True)
            ]
            self.targets, self.shares = [(None, mixed)], [1.0]

    def __call__(self, values: Tensor) -> Terms:
        """Return the losses of what is optimised."""
        views = self._views(values)
        style = values.new_zeros(())
        for share, (mask, wanted) in zip(self.shares, self.targets, strict=True):
            style = style + share * gram_loss(_grams(views, mask), wanted).mean()
        content = content_loss(views[0].content, self.content).mean()
        outside = (self.image(values).abs() - 1).clamp_min(0).square().mean()
        total = style + self.how.content_weight * content + _OUTSIDE * outside
        self.last = Terms(total, style.detach(), content.detach())
        return self.last

    def image(self, values: Tensor) -> Tensor:
        """Return the image (1, 3, H, W) of what is optimised, the photograph outside of the masks."""
        image = self.photo + (values - self.start) if self.how.keep_colors else values
        return image if self.changed is None else torch.lerp(self.photo, image, self.changed)

    def _views(self, values: Tensor) -> list[Layers]:
        """Return what the network sees in each view: of grey images if the colours are kept."""
        images = with_channels(values, 3)
        return [self.features(images.flip(axes)) for axes in _VIEWS]

    def _wanted(self, style: Tensor) -> list[Tensor]:
        """Return the Gram matrices of a style."""
        longest = self.how.style_scale * max(self.photo.shape[-2:]) / max(style.shape[-2:])
        image = resized(style, (max(round(longest * style.shape[-2]), 1), max(round(longest * style.shape[-1]), 1)))
        if self.how.keep_colors:  # with the photograph's brightness and contrast (Gatys et al. 2017, section 5)
            image = adain(with_channels(image, 1), *moments(self.start))
        return _grams(self._views(image), None)


def _search(goal: _Goal, start: Tensor, how: Settings) -> Iterator[tuple[Tensor, int]]:
    """Yield what is optimised, and the number of iterations so far at this level."""
    values = start.clone().requires_grad_()

    def loss() -> Tensor:
        optimizer.zero_grad()
        terms = goal(values)
        torch.autograd.backward(terms.total)
        return terms.total

    optimizer = _optimizer(values, how)
    for first in range(0, how.steps, CHUNK):
        count = min(CHUNK, how.steps - first)
        _advance(optimizer, loss, count)
        yield values.detach(), first + count


def _optimizer(values: Tensor, how: Settings) -> Optimizer:
    if how.optimizer == "adam":
        return Adam([values], lr=_LR)
    return LBFGS([values], history_size=_HISTORY, line_search_fn="strong_wolfe")


def _advance(optimizer: Optimizer, loss: Callable[[], Any], count: int) -> None:
    if isinstance(optimizer, LBFGS):
        optimizer.param_groups[0].update(max_iter=count, max_eval=count + count // 4)
        optimizer.step(loss)
        return
    for _ in range(count):
        optimizer.step(loss)


def _grams(views: Sequence[Layers], mask: Tensor | None) -> list[Tensor]:
    """Return the Gram matrices of all layers in all views, where a mask (1, 1, H, W) is."""
    found = []
    for axes, layers in zip(_VIEWS, views, strict=True):
        flipped = None if mask is None else mask.flip([axis for axis in axes if axis != 1])
        found += [gram(maps, _at(flipped, maps)) for maps in layers.style]
    return found


def _at(mask: Tensor | None, maps: Tensor) -> Tensor | None:
    return None if mask is None else adaptive_avg_pool2d(mask, _size(maps))


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
