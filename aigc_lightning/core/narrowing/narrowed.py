"""Models that begin with the strongest channels of wider ones.

Channels that belong together are kept or left out together, as in DepGraph (Fang et al., CVPR 2023,
https://arxiv.org/abs/2301.12900).
Departures from the paper: couplings are found by probing (`coupled.py`), not from the operations; a channel is as
strong as its norm's gain or its own weights, times the weights of the layers that read it, not a sum of all squares.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from aigc_lightning.core.checkpoint import build_model
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.narrowing.coupled import Channel, coupled_channels, layers_of
from aigc_lightning.core.narrowing.layers import Side, is_dense, selected, sizes, strengths
from aigc_lightning.errors import UserError

_AVERAGES = ("averages", "other_averages")
#: Numbers of the channels to keep of each side of each layer.
_Kept = Mapping[tuple[str, Side], list[int]]


def narrowed(model: ImageModel, share: float, origin: Path) -> ImageModel:
    """Return a model of the same class with fewer channels, the strongest ones of another.

    Args:
        model: with an option `width`, in evaluation mode, on the CPU.
        share: of the width that is left out, from 0 to below 1; with 0 the models are equal.
        origin: the file that it is from, for messages.

    Raises:
        UserError: the model has no such option, or channels of its networks cannot be left out.
    """
    hint = "Train a smaller model with it as the teacher instead: aigc fit ... --distill.teacher RUN."
    record = model.provenance()
    width = record["config"].get("width")
    if not isinstance(width, int):
        raise UserError(f"A {type(model).__name__} has no option `width`, by which it could be narrower.", hint)
    config = {**record["config"], "width": max(1, round(width * (1 - share)))}
    student = build_model({**record, "config": config}, origin).eval()
    judges = set(getattr(model, "players", ())) - set(model.averaged_networks)
    for name in begin_with(student, model):
        if name not in judges:
            what = f"Channels of the {name} of this {type(model).__name__} cannot be left out"
            raise UserError(f"{what}: what they are made of cannot be followed.", hint)
    return student


def begin_with(student: ImageModel, teacher: ImageModel) -> list[str]:
    """Give a model the weights of another; of layers that have fewer channels, those of the strongest.

    Args:
        student: any model; the averages of its networks begin with the same weights.
        teacher: in evaluation mode, on the CPU.

    Returns:
        Names of the student's networks that keep their weights, since the teacher has no such layers, or channels that
        cannot be followed.
    """
    given, wanted = _used_weights(teacher), _own_weights(student)
    layers = layers_of(teacher)
    kept = _kept_channels(teacher, layers, layers_of(student))
    found = {name: _selected(name, given[name], layers, kept) for name in wanted if name in given}
    unfit = {_network(name) for name, value in wanted.items() if name not in found or found[name].shape != value.shape}
    student.load_state_dict({name: value for name, value in found.items() if _network(name) not in unfit}, strict=False)
    student.reset_averages()
    return sorted(unfit)


def _kept_channels(teacher: ImageModel, layers: Mapping[str, nn.Module], own: Mapping[str, nn.Module]) -> _Kept:
    """Return the channels that layers keep which have fewer in the student: as many as it has, the strongest.

    Args:
        teacher: of the layers.
        layers: of the teacher, by name.
        own: layers of the student, by name.
    """
    pairs = {name: (sizes(layer), sizes(own[name])) for name, layer in layers.items() if name in own}
    narrower = [name for name, (before, now) in pairs.items() if before != now]
    alike: dict[frozenset[tuple[str, Side]], list[set[Channel]]] = defaultdict(list)
    for channels in coupled_channels(teacher, narrower) if narrower else ():
        alike[frozenset((name, side) for name, side, _ in channels)].append(channels)
    norms = {(name, side): strengths(layers[name], side).tolist() for name in narrower for side in sizes(layers[name])}
    kept: dict[tuple[str, Side], list[int]] = defaultdict(list)
    for places, sets in alike.items():
        made = [name for name, side in places if side == "out" and is_dense(layers[name]) and name in pairs]
        read = [name for name, side in places if side == "in" and is_dense(layers[name])]
        if not made or len(made) + len(read) < 2:  # where they come from or go to has not been found
            continue
        before, now = (layer["out"] for layer in pairs[made[0]])
        strongest = sorted(sets, key=lambda channels: _strength(channels, layers, norms), reverse=True)
        for name, side, number in set().union(*strongest[: len(sets) * now // before]):
            if name in pairs and pairs[name][0][side] != pairs[name][1][side]:
                kept[name, side].append(number)
    return {place: sorted(numbers) for place, numbers in kept.items()}


def _strength(
    channels: set[Channel], layers: Mapping[str, nn.Module], norms: Mapping[tuple[str, Side], list[float]]
) -> float:
    """Return how much channels that belong together matter."""

    def norm(side: Side, *, dense: bool) -> float | None:
        found = [
            norms[name, side][number]
            for name, where, number in channels
            if where == side and is_dense(layers[name]) == dense and (name, side) in norms
        ]
        return sum(value**2 for value in found) ** 0.5 if found else None

    gain, made, read = norm("out", dense=False), norm("out", dense=True), norm("in", dense=True)
    size = made if gain is None else gain  # a norm makes the size of the weights before it immaterial
    return (size or 0.0) * (1.0 if read is None else read)


def _selected(name: str, value: Tensor, layers: Mapping[str, nn.Module], kept: _Kept) -> Tensor:
    """Return a tensor of the teacher with the channels to keep alone."""
    layer = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
    if layer not in layers:
        return value
    return selected(layers[layer], name, value, {side: kept.get((layer, side)) for side in ("in", "out")})


def _own_weights(model: ImageModel) -> dict[str, Tensor]:
    """Return a model's tensors without moving averages."""
    return {name: value for name, value in model.state_dict().items() if _network(name) not in _AVERAGES}


def _used_weights(model: ImageModel) -> dict[str, Tensor]:
    """Return a model's tensors, of averaged networks the averages."""
    used = _own_weights(model)
    for name, network in model.averages.items():
        used |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
    return used


def _network(name: str) -> str:
    """Return the attribute of the model that a tensor belongs to."""
    return name.partition(".")[0]
