"""Checks of a model's training, through `aigc fit` and the model's preset."""

import threading
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.run.processes import OverdueError
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.testing import exactness
from aigc_lightning.testing.cases import ModelCase, isolated
from aigc_lightning.testing.checks import CheckFailedError, NotApplicableError, require
from aigc_lightning.testing.model_checks import output_is_an_image

#: Players may be updated only at every n-th batch; by this step each must have changed.
_LATEST_MOVE = 12
_NOISE = "aigc_lightning.testing.noise.NoiseImages"
#: Maximum difference between the gradients of one and two processes, relative to their norm, in float64.
_TOLERANCE = 1e-6


def trains_with_its_preset(case: ModelCase) -> None:
    """`aigc fit --config PRESET` runs for two steps and leaves finite weights."""
    for name, value in case.load().state_dict().items():
        require(bool(value.isfinite().all()), f"{name} is not finite after two steps.")


def moves_every_player(case: ModelCase) -> None:
    """Training changes the weights of every player, or of every trained network."""
    before, after = case.weights(1), case.weights(2)
    still = _unmoved(case, before, after)
    if still:
        longer = case.resume(case.trained, "until_all_moved", _LATEST_MOVE)
        still = _unmoved(case, before, read_checkpoint(find_checkpoint(longer))["state_dict"])
    require(not still, f"{' and '.join(still)} did not change in {_LATEST_MOVE} steps.")


def trains_on_the_shapes_it_claims(case: ModelCase) -> None:
    """It trains on every number of channels that it claims, and on non-square images."""
    height, width = case.spec.height, case.spec.width
    candidates = ((height // 2, width), (height, 2 * width), (height, width))
    sizes = [size for size in candidates if _takes(case, replace(case.spec, height=size[0], width=size[1]))]
    for channels in case.target.channels:
        spec = replace(case.spec, channels=channels, height=sizes[0][0], width=sizes[0][1])
        options = {"channels": channels, "height": spec.height, "width": spec.width, "num_classes": spec.num_classes}
        values = {f"data__{name}": str(value) for name, value in options.items()}
        values |= {"data": _NOISE, "data__task": spec.task, "data__batch_size": "4"}
        values |= {"data__captions": str(spec.captions), "data__masks": str(spec.masks)}
        values |= {"data__scale": f"{spec.scale:g}"}
        quiet = {"trainer__limit_val_batches": "0", "grids__num": "1"}
        only_noise = [text for text in case.settings if not text.startswith("data.")]
        part = ModelCase(case.kind, case.name, case.folder, only_noise, case.preset)
        folder = part.fit(f"channels_{channels}", 1, **values, **quiet)
        with isolated():
            output_is_an_image(part.load(folder), spec)


def resumes_exactly(case: ModelCase) -> None:
    """A run that resumes from its middle, its end or a signal equals one without a stop, bit for bit."""
    straight = case.fit("straight", 4, checkpoints__keep_every_n_steps="1")
    resumed = {
        "the checkpoint of step 1": case.resume(straight, "from_step_1", 4, "step_0000001.ckpt"),
        "the end of a run of 2 steps": case.resume(case.trained, "resumed", 4),
    }
    if threading.current_thread() is threading.main_thread():  # elsewhere nobody hears the signal
        resumed["SIGTERM at step 3"] = case.resume(case.stop("stopped", 4, stop=3), "after_the_signal", 4)
    expected = read_checkpoint(find_checkpoint(straight))
    for start, folder in resumed.items():
        places = exactness.different_tensors(read_checkpoint(find_checkpoint(folder)), expected)
        require(
            not places,
            f"{len(places)} values differ after resuming from {start}, such as {', '.join(places[:3])}: random numbers "
            "of a step must be functions of seed, step and sample (self.noise, self.uniform, core.keyed), and what "
            "changes must be in buffers or on_save_checkpoint.",
        )


def trains_in_bf16(case: ModelCase) -> None:
    """A step in bf16-mixed precision leaves finite weights and float32 images."""
    folder = case.fit("bf16", 1, trainer__precision="bf16-mixed", trainer__limit_val_batches="0")
    model = case.load(folder)
    require(all(bool(value.isfinite().all()) for value in model.state_dict().values()), "Weights are not finite.")
    output_is_an_image(model, case.spec)


def gives_the_same_on_two_processes(case: ModelCase) -> None:
    """Two processes compute the same gradients as one with the same global batch; batch norm is replaced."""
    with isolated():
        _compare(*(_trace(case, f"{count}_processes", processes=count) for count in (1, 2)))


def gives_the_same_in_micro_batches(case: ModelCase) -> None:
    """A batch in three uneven parts gives the gradients of the whole batch, if no layer changes in forward.

    Batch norm is replaced, and the power iteration of spectral norm, which takes a step at every forward pass, is
    frozen.
    """
    if not issubclass(case.target, AdversarialModel) and not case.load().automatic_optimization:
        raise NotApplicableError("It takes its optimizers' steps itself.")
    with isolated():
        _compare(*(_trace(case, f"{parts}_parts", Engine(micro_batches=parts)) for parts in (1, 3)))


def gives_the_same_with_recomputed_activations(case: ModelCase) -> None:
    """Blocks that compute their activations again in the backward pass give the same gradients bit for bit."""
    if not case.target.block_classes:
        raise NotApplicableError("It names no block_classes.")
    with isolated():
        kept = _trace(case, "kept")
        again = _trace(case, "recomputed", Engine(checkpoint_activations=True))
    require(len(kept.gradients) == len(again.gradients), "Different networks are updated.")
    for step, ((_, these), (_, those)) in enumerate(zip(kept.gradients, again.gradients, strict=True)):
        same = all(torch.equal(first, second) for first, second in zip(these, those, strict=True))
        require(same, f"The gradients of update {step} differ: a block must compute the same from the same inputs.")


def _trace(case: ModelCase, name: str, engine: Engine | None = None, processes: int = 1) -> exactness.Trace:
    """Train for two batches of eight in float64."""
    build = partial(_stateless_build, case, engine)
    try:
        return exactness.train(build, 8, 2, case.folder / name, processes=processes, precision="64-true")
    except OverdueError as error:
        raise CheckFailedError(f"{error} Does one of them wait for an exchange that the others skip?") from error


def _stateless_build(case: ModelCase, engine: Engine | None, batch_size: int) -> tuple[ImageModel, ImageDataModule]:
    model, data = _stateless(case.build(case.spec)), case.data()
    data.batch_size = batch_size
    if engine is not None:
        model.engine = engine
    return model, data


def _compare(first: exactness.Trace, second: exactness.Trace) -> None:
    one, two = first.gradients, second.gradients
    require([number for number, _ in one] == [number for number, _ in two], "Different networks are updated.")
    for step, ((_, these), (_, those)) in enumerate(zip(one, two, strict=True)):
        difference = exactness.largest_difference(those, these)
        require(difference < _TOLERANCE, f"The gradients of update {step} differ by {difference:.1e}.")


def _unmoved(case: ModelCase, before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Return the players, or the networks of a model without players, whose weights did not change."""
    model = case.load()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    players = getattr(case.target, "players", None) or sorted({name.partition(".")[0] for name in trained})
    weights = {player: [name for name in before if f"{name}.".startswith(f"{player}.")] for player in players}
    own = {player: [name for name in names if name in trained] for player, names in weights.items()}
    return [player for player, names in own.items() if all(torch.equal(before[name], after[name]) for name in names)]


def _takes(case: ModelCase, spec: ImageSpec) -> bool:
    try:
        case.build(spec)
    except UserError:
        return False
    return True


def _stateless(model: ImageModel) -> ImageModel:
    """Replace every batch norm that is not kept in evaluation mode, and freeze spectral norms, in place."""
    for module in list(model.train().modules()):
        if isinstance(module, _SpectralNorm):
            module.n_power_iterations = 0
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and child.training:
                setattr(module, name, nn.GroupNorm(1, child.num_features, affine=child.affine))
    return model
