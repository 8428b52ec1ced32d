"""Which channels of a model's layers belong together, found by probing.

The output of every layer is replaced by independent numbers. The gradient of a channel that enters a layer then says
which channels it is made of, whatever the operations between the layers.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from aigc_lightning.core.export_graphs import ExportGraph, export_graphs
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.narrowing.layers import Side, channel_axis, is_channelwise, is_dense, sizes

#: A layer's name, a side of it, and the number of a channel there.
Channel = tuple[str, Side, int]


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with weights of channels by name, without those of moving averages."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if (is_dense(layer) or is_channelwise(layer))
        and isinstance(layer.weight, Tensor)
        and not name.startswith(("averages.", "other_averages."))
    }


def coupled_channels(model: ImageModel, followed: Collection[str]) -> list[set[Channel]]:
    """Return the channels that belong together and can only be left out together, in sets.

    Args:
        model: in evaluation mode, on the CPU; what it exports and the networks that judge its images are run.
        followed: names of the layers that matter.
    """
    layers = layers_of(model)
    links = _Links()
    for name in followed:
        if is_channelwise(layers[name]):
            for number in range(sizes(layers[name])["out"]):
                links.join((name, "in", number), (name, "out", number))
    for run in _runs(model):
        with _probed(layers) as probe, model.differentiable():
            try:
                result = run()
            except Exception:  # a network that takes something else: its channels stay alone
                continue
        _join_inputs(probe, followed, links)
        _join_factors(result, probe, followed, links)
    return links.sets()


class _Links:
    """Sets of channels, of which two are joined at a time."""

    def __init__(self) -> None:
        self._next: dict[Channel, Channel] = {}

    def root(self, channel: Channel) -> Channel:
        """Return the channel that stands for the set of a channel."""
        following = self._next.setdefault(channel, channel)
        while following != channel:
            channel, following = following, self._next[following]
        return channel

    def join(self, one: Channel, other: Channel) -> None:
        """Let two channels belong together."""
        self._next[self.root(one)] = self.root(other)

    def sets(self) -> list[set[Channel]]:
        """Return all sets."""
        found = defaultdict(set)
        for channel in list(self._next):
            found[self.root(channel)].add(channel)
        return list(found.values())


class _Probe:
    """What layers were given, and the numbers in place of their outputs: name, axis of the channels, and tensor."""

    def __init__(self) -> None:
        self.inputs: list[tuple[str, int, Tensor]] = []
        self.outputs: list[tuple[str, int, Tensor]] = []
        self._generator = torch.Generator().manual_seed(0)

    def before(self, name: str, layer: nn.Module, given: tuple[Any, ...]) -> None:
        """Keep what a layer is given."""
        self.inputs.append((name, channel_axis(layer), given[0].clone()))  # it may be changed in place later

    def after(self, name: str, layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
        """Replace what a layer returns."""
        # Above 0, where no activation function is flat.
        fresh = (0.1 + 0.8 * torch.rand(output.shape, generator=self._generator)).requires_grad_()
        self.outputs.append((name, channel_axis(layer), fresh))
        return fresh.clone()  # as above

    def channels_with(self, gradients: tuple[Tensor | None, ...]) -> Iterator[Channel]:
        """Yield the channels of the outputs whose gradient is not 0."""
        for (name, axis, _), gradient in zip(self.outputs, gradients, strict=True):
            if gradient is not None:
                touched = gradient.movedim(axis, 0).flatten(1).abs().sum(dim=1)
                yield from ((name, "out", number) for number in touched.nonzero().flatten().tolist())

    def gradients(self, value: Tensor, *, differentiable: bool = False) -> tuple[Tensor | None, ...]:
        """Return the gradients of a value, weighted by random numbers, for all outputs."""
        total = (value * torch.rand(value.shape, generator=self._generator)).sum()
        outputs = [output for _, _, output in self.outputs]
        return torch.autograd.grad(total, outputs, retain_graph=True, create_graph=differentiable, allow_unused=True)


@contextmanager
def _probed(layers: Mapping[str, nn.Module]) -> Iterator[_Probe]:
    """Let layers tell a probe what they are given."""
    probe = _Probe()
    handles = [layer.register_forward_pre_hook(partial(probe.before, name)) for name, layer in layers.items()]
    handles += [layer.register_forward_hook(partial(probe.after, name)) for name, layer in layers.items()]
    try:
        yield probe
    finally:
        for handle in handles:
            handle.remove()


def _join_inputs(probe: _Probe, followed: Collection[str], links: _Links) -> None:
    """Join each channel that enters a layer with those that it is made of."""
    for name, axis, given in probe.inputs:
        if name in followed and given.requires_grad:
            for number, part in enumerate(given.movedim(axis, 0).unbind()):
                for channel in probe.channels_with(probe.gradients(part)):
                    links.join((name, "in", number), channel)


def _join_factors(result: Any, probe: _Probe, followed: Collection[str], links: _Links) -> None:
    """Join channels that are multiplied with each other in what comes out, as in an inner product."""
    for value in result if isinstance(result, tuple) else (result,):
        if not value.requires_grad:
            continue
        gradients = probe.gradients(value, differentiable=True)
        for (name, axis, _), gradient in zip(probe.outputs, gradients, strict=True):
            if name in followed and gradient is not None and gradient.requires_grad:
                for number, part in enumerate(gradient.movedim(axis, 0).unbind()):
                    for channel in probe.channels_with(probe.gradients(part)):
                        links.join((name, "out", number), channel)


def _runs(model: Any) -> Iterator[Callable[[], Any]]:
    """Yield calls that together run the networks of a model."""
    for graph in export_graphs(model).values():
        if isinstance(graph, ExportGraph):
            yield lambda graph=graph: graph.call(**graph.example(1))  # type: ignore[misc]
    images = torch.rand(2, *model.spec.shape) * 2 - 1
    for name in set(getattr(model, "players", ())) - set(model.averaged_networks):
        network = getattr(model, name)
        labels = [torch.zeros(2, dtype=torch.int64)] if "labels" in signature(network.forward).parameters else []
        yield partial(network, images, *labels)
