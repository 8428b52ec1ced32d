"""What the directions of a generator's latent space and the channels of its network do.

Papers: see `core/directions.py`; Bau et al., GAN Dissection, ICLR 2019, https://arxiv.org/abs/1811.10597 (section 3.2:
units are ablated).
Departures from the papers: principal components of the images instead of an early layer's activations, within
classes; effects are measured by the probabilities of a classifier instead of a segmentation.
Shapes: B batch, N images, Z latent size, D directions, K classes, U channels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from aigc_lightning.core.capabilities import latent_spaces, num_sampled_classes
from aigc_lightning.core.chunks import chunk_size, padded, padded_rows, parts
from aigc_lightning.core.directions import factorized_directions, regressed_directions
from aigc_lightning.errors import UserError

_SAMPLES = 512  # latents for principal components
_PIXELS = 32  # side to which images are reduced for principal components
_LARGEST = 4096  # latent sizes up to which a layer's response is measured


class Latents:
    """The last latent space of a model, with classes by seed.

    Args:
        model: with latents.
        seeds: of the images.
    """

    def __init__(self, model: Any, seeds: Sequence[int]) -> None:
        spaces, classes = latent_spaces(model), num_sampled_classes(model)
        self.model, self.space = model, {"space": spaces[-1]} if len(spaces) > 1 else {}
        self.labels = [seed % classes for seed in seeds] if classes else None
        found = []
        for part in parts(len(seeds), chunk_size(model)):
            chosen = padded([seeds[place] for place in part], chunk_size(model))
            asked = {"labels": self._labels(part), **self.space} if self.space else {}
            found.append(model.latents(chosen, **asked)[: len(part)])
        self.values = torch.cat(found)

    def _labels(self, part: Sequence[int]) -> list[int] | None:
        return self.labels and padded([self.labels[place] for place in part], chunk_size(self.model))

    def decode(self, latents: Tensor) -> Tensor:
        """Return images, float (N, C, H, W) in [-1, 1], of latents, the first ones of the seeds."""
        found, size = [], chunk_size(self.model)
        for part in parts(len(latents), size):
            asked = {} if self.labels is None else {"labels": self._labels(part)}
            rows = padded_rows(latents[part[0] : part[-1] + 1], size)
            found.append(self.model.decode(rows, **asked, **self.space)[: len(part)].float().cpu())
        return torch.cat(found)


class Effect(NamedTuple):
    """What moving along a direction from -3 to 3 standard deviations does.

    Args:
        change: mean absolute change of the pixels, of a range of 2.
        classes: mean change of the classifier's probability of each class, (K,); None without a classifier.
    """

    change: float
    classes: Tensor | None


def directions(model: Any, method: str, count: int) -> Tensor:
    """Return directions of unit length in a model's last latent space, (D, ...) in the shape of its latents.

    Args:
        model: with latents.
        method: "pca" for principal components of the images, or "sefa" for the weights of the layers that read latents.
        count: D, or fewer if the latents are smaller.

    Raises:
        UserError: no layer reads the latents as they are, which SeFa needs.
    """
    if method == "pca":
        latents = Latents(model, range(_SAMPLES))
        images = latents.decode(latents.values)
        sides = min(_PIXELS, images.shape[2]), min(_PIXELS, images.shape[3])
        small = functional.adaptive_avg_pool2d(images, sides)
        flat, drawn = latents.values.flatten(1).cpu(), _within_classes(small.flatten(1), latents.labels)
        found = regressed_directions(flat, drawn, min(count, flat.shape[1], drawn.shape[1]))
    else:
        latents = Latents(model, [0])
        weights = response(model, latents)
        found = factorized_directions(weights, min(count, weights.shape[1]))
    return found.float().view(-1, *latents.values.shape[1:])


def _within_classes(rows: Tensor, labels: Sequence[int] | None) -> Tensor:
    """Return rows (N, P) less the mean of their class, so that directions do not follow the classes."""
    classes = torch.zeros(len(rows), dtype=torch.int64) if labels is None else torch.tensor(labels)
    members = functional.one_hot(classes).to(rows)
    means = members.T @ rows / members.sum(0)[:, None].clamp(min=1)
    return rows - means[classes]


def response(model: Any, latents: Latents) -> Tensor:
    """Return the matrix (I, Z) of all affine layers that read a model's latents: their response to each coordinate.

    Raises:
        UserError: there is no such layer, or the latents are too large.
    """
    size = latents.values[0].numel()
    readers = [] if size > _LARGEST else _readers(model, latents)
    if not readers:
        what = f"No linear layer of {type(model).__name__} reads its latents directly, so SeFa finds no directions."
        raise UserError(what, "Use the principal components.")
    rows = []
    with model.inference():
        for layer, example in readers:
            units = torch.zeros(size, example[0].numel(), device=example.device, dtype=example.dtype)
            units[:, :size] = torch.eye(size, device=example.device, dtype=example.dtype)
            shaped = torch.cat([torch.zeros_like(units[:1]), units]).view(-1, *example.shape[1:])
            outputs = layer(shaped).flatten(1).float()
            rows.append((outputs[1:] - outputs[:1]).T.cpu())
    return torch.cat(rows)


def _readers(model: Any, latents: Latents) -> list[tuple[nn.Module, Tensor]]:
    """Return the layers whose inputs begin with the latents, and an example of the input of each."""
    flat = latents.values.flatten(1)
    found: list[tuple[nn.Module, Tensor]] = []

    def look(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        first = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        if first is None or not isinstance(output, Tensor) or first.ndim < 2:
            return
        rows, size = first.flatten(1), flat.shape[1]
        if len(inputs) == 1 and rows.shape[1] >= size and torch.equal(rows[:1, :size].float(), flat.float()):
            found.append((layer, first[:1].detach()))

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    handles = [layer.register_forward_hook(look) for layer in model.modules() if isinstance(layer, kinds)]
    try:
        latents.decode(latents.values)
    finally:
        for handle in handles:
            handle.remove()
    return found


def effect(latents: Latents, direction: Tensor, classify: Callable[[Tensor], Tensor] | None = None) -> Effect:
    """Return what a direction does to the images of some latents.

    Args:
        latents: of the images.
        direction: of unit length, in the shape of a latent.
        classify: returns the probabilities (N, K) of images (N, C, H, W) in [-1, 1].
    """
    spread = _spread(latents, direction)
    low, high = (latents.decode(latents.values + step * spread * direction.to(latents.values)) for step in (-3, 3))
    classes = None if classify is None else (classify(high) - classify(low)).mean(0)
    return Effect(float((high - low).abs().mean()), classes)


def moved(latents: Latents, direction: Tensor, steps: int = 7) -> Tensor:
    """Return the images of the first latent moved along a direction, (steps, C, H, W), from -3 to 3 deviations."""
    spread = _spread(latents, direction)
    images = []
    for step in torch.linspace(-3, 3, steps).tolist():
        images.append(latents.decode(latents.values[:1] + step * spread * direction.to(latents.values))[0])
    return torch.stack(images)


def _spread(latents: Latents, direction: Tensor) -> float:
    """Return the standard deviation of latents along a direction: 1 where they are standard normal."""
    if not latents.space or len(latents.values) < 2:
        return 1.0
    return float((latents.values.flatten(1).cpu() @ direction.flatten()).std())


class Units(NamedTuple):
    """What the channels of a layer draw.

    Args:
        layer: its name.
        falls: mean fall of the probability of each class among the images of the class when the channel is silenced,
            (U, K).
    """

    layer: str
    falls: Tensor


def ablate(latents: Latents, classify: Callable[[Tensor], Tensor], most: int = 64) -> Units:
    """Silence the channels of the middle convolution that draws images, one at a time.

    Args:
        latents: of the images.
        classify: returns the probabilities (N, K) of images (N, C, H, W) in [-1, 1].
        most: channels that are tried at most, the first ones.

    Raises:
        UserError: no convolution takes part in drawing.
    """
    name, layer, count = _middle(latents)
    before = classify(latents.decode(latents.values))
    own = before.argmax(1)
    members = functional.one_hot(own, before.shape[1]).to(before)
    falls = []
    for unit in range(min(count, most)):
        handle = layer.register_forward_hook(partial(_silence, unit))
        try:
            after = classify(latents.decode(latents.values))
        finally:
            handle.remove()
        falls.append(((before - after) * members).sum(0) / members.sum(0).clamp(min=1))
    return Units(name, torch.stack(falls))


def _silence(unit: int, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    changed = output.clone()
    changed[:, unit] = 0
    return changed


def _middle(latents: Latents) -> tuple[str, nn.Module, int]:
    """Return name, module and number of channels of the middle one of the convolutions, in the order of their calls."""
    called: list[tuple[str, nn.Module, int]] = []
    kinds = (nn.Conv2d, nn.ConvTranspose2d)

    def note(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        called.append((name, layer, output.shape[1]))

    layers = [(name, layer) for name, layer in latents.model.named_modules() if isinstance(layer, kinds)]
    handles = [layer.register_forward_hook(partial(note, name)) for name, layer in layers]
    try:
        latents.decode(latents.values[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise UserError(f"{type(latents.model).__name__} draws without convolutions.", "Leave --classifier out.")
    return called[len(called) // 2]
