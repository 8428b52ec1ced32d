"""Checks of data: every sample once per epoch, under its key, as described by the spec."""

import pickle
from collections.abc import Iterable
from inspect import signature
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from aigc_lightning.core.batch import ENCODED_KEYS, IMAGE_KEYS
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.testing.cases import DataCase, isolated
from aigc_lightning.testing.checks import CheckFailedError, not_applicable, require

#: Number of batches checked of a large dataset; whole epochs are only read of datasets with fewer samples than the
#: second.
_BATCHES, _WHOLE = 4, 20_000


def is_built(case: DataCase) -> None:
    """It is built with the given options and has a spec."""
    spec = case.build().spec
    require(isinstance(spec, ImageSpec), f"spec is a {type(spec).__name__}.")
    require(spec.task in IMAGE_KEYS, f"The task {spec.task!r} is none of {', '.join(IMAGE_KEYS)}.")
    require(spec == case.build().spec, "A second instance has another spec.")


def refuses_wrong_options(case: DataCase) -> None:
    """A batch size of 0 is a UserError."""
    try:
        case.build(batch_size=0)
    except UserError:
        return
    raise CheckFailedError("It accepts batch_size=0: hand batch_size on to ImageDataModule.__init__.")


def gives_keyed_batches(case: DataCase) -> None:
    """Batches have the keys of the spec's task, float32 images of the spec's shape in [-1, 1], and `index`."""
    data = case.build(batch_size=4)
    for stage in ("train", "val", "test"):
        with isolated():
            batch = next(iter(getattr(data, f"{stage}_dataloader")()))
        _check_batch(batch, data.spec, stage)


def gives_each_sample_once(case: DataCase) -> None:
    """An epoch has every training sample exactly once, with one process and with two; so has validation."""
    for world_size in (1, 2):
        for stage in ("train", "val"):
            with isolated():
                found = [number for rank in range(world_size) for number in _epoch(case, stage, rank, world_size)]
            require(
                sorted(found) == list(range(len(found))),
                f"{stage}: {len(found)} samples with {len(set(found))} distinct indices in {world_size} processes.",
            )


def keeps_masks_as_they_are(case: DataCase) -> None:
    """Augmentation moves masks with their images, and leaves them at 0 and 1."""
    if not case.build().spec.masks or "augmentation" not in signature(case.target).parameters:
        not_applicable("it has no masks, or no augmentation")
    data = case.build(batch_size=4, augmentation=Augment(flip=True, crop=1, color=0.9, jitter=2))
    with isolated():
        batch = next(iter(data.train_dataloader()))
    _check_batch(batch, data.spec, "train, augmented")


def gives_the_same_sample_for_a_key(case: DataCase) -> None:
    """A sample depends only on (seed, epoch, index), not on the batch size or on what was read before."""
    with isolated():
        first, again, larger = (_by_index(case.build(batch_size=size), 3) for size in (4, 4, 6))
    require(list(first) == list(again), "A second instance has another order.")
    for other in (again, larger):
        for number in first.keys() & other.keys():
            require(_equal(first[number], other[number]), f"Sample {number} is different in another batch.")


def goes_on_after_a_resume(case: DataCase) -> None:
    """Data resumed in the middle of an epoch yield the batches that come next."""
    if len(case.build().train_source()) < 8:
        not_applicable("it has fewer than 8 samples")
    with isolated():
        whole, rest = _by_index(_at(case, 0), 2), _by_index(_at(case, 1), 1)
    require(list(whole)[4:] == list(rest), "The order differs from that of an uninterrupted run.")
    for number, sample in rest.items():
        require(_equal(sample, whole[number]), f"Sample {number} differs from that of an uninterrupted run.")


def gives_the_same_with_workers(case: DataCase) -> None:
    """Loader processes yield the same batches in the same order."""
    with isolated():
        first, second = (_by_index(case.build(batch_size=4, num_workers=count), 2) for count in (0, 1))
    require(list(first) == list(second), "The order differs.")
    require(all(_equal(first[number], second[number]) for number in first), "The samples differ.")


def data_can_be_pickled(case: DataCase) -> None:
    """It can be pickled, as spawned processes require."""
    data = case.build()
    require(pickle.loads(pickle.dumps(data)).spec == data.spec, "Its copy has another spec.")


def trains_a_model(case: DataCase) -> None:
    """`aigc fit --model dcgan --data NAME` runs for one step."""
    data = case.build()
    if any(key in data.samples(data.train_source()).read([0]) for key in ENCODED_KEYS):
        not_applicable("DCGAN takes no encoded images")
    if data.spec.task != "generation" or any(size % 4 or size < 8 for size in data.spec.shape[1:]):
        not_applicable(f"DCGAN does not take its images: {data.spec}, {data.spec.task}")
    options = {"model": "dcgan", "model.width": "8", "data.batch_size": "4", "grids.num": "1"}
    options |= {"trainer.max_steps": "1", "trainer.accelerator": "cpu", "trainer.limit_val_batches": "1"}
    options |= {"run": str(case.folder / "fit")}
    given = [f"--{text}" for text in case.settings if not text.startswith("data.batch_size")]
    case.run("fit", [*case.arguments(), *(f"--{name}={value}" for name, value in options.items()), *given])


def is_scored_in_every_stage(case: DataCase) -> None:
    """`aigc fit`, `validate`, `test` and `predict` complete with it, each in its own run."""
    _run_every_stage(case, num_workers=0)


def is_scored_with_workers(case: DataCase) -> None:
    """`aigc fit`, `validate`, `test` and `predict` complete with it with two loader processes."""
    _run_every_stage(case, num_workers=2)


def _run_every_stage(case: DataCase, num_workers: int) -> None:
    options = {f"trainer.limit_{stage}_batches": "2" for stage in ("val", "test", "predict")}
    options |= {"trainer.accelerator": "cpu", "trainer.max_steps": "2"}
    options |= {"data.batch_size": "4", "data.num_workers": str(num_workers)}
    options |= dict(cast(tuple[str, str], text.split("=", 1)) for text in case.settings)
    given = ["--trust-config", *(f"--{name}={value}" for name, value in options.items())]  # for the probe
    run = case.folder / f"{num_workers}_workers"
    probe = "--model=aigc_lightning.testing.probe.Probe"
    case.run("fit", [*case.arguments(), probe, *given, f"--run={run}"])
    for stage, score in {"validate": "val/error", "test": "test/error"}.items():
        output = case.run(stage, [f"--checkpoint={run}", *given])
        require(f"{score}: " in output, f"`aigc {stage}` prints no score:\n{output}")
    case.run("predict", [f"--checkpoint={run}", *given])
    require(any((run / "predictions").glob("*.png")), "`aigc predict` writes no picture.")


def _check_batch(batch: Any, spec: ImageSpec, stage: str) -> None:
    require(isinstance(batch, dict), f"{stage} batches are {type(batch).__name__}, not mappings.")
    encoded = [key for key in ENCODED_KEYS if key in batch] if stage.startswith("train") else []
    keys = () if encoded else IMAGE_KEYS[spec.task]
    for key in (*keys, "index", *encoded):
        require(isinstance(batch.get(key), Tensor), f"{stage} batches have no tensor {key!r}.")
    size = len(batch["index"])
    require(batch["index"].dtype == torch.int64 and batch["index"].ndim == 1, f"{stage}: index is not int64 (B,).")
    for key in keys:
        images: Tensor = batch[key]
        shape = (size, *spec.shape)
        if key == "degraded":
            shape = (size, spec.channels, round(spec.height / spec.scale), round(spec.width / spec.scale))
        found = tuple(images.shape)
        require(found[: len(shape)] == shape, f"{stage}: {key} is {found} but the spec says {shape}.")
        require(images.dtype == torch.float32, f"{stage}: {key} is {images.dtype}, not float32.")
        low, high = images.min().item(), images.max().item()
        require(low >= -1 and high <= 1, f"{stage}: {key} has values from {low:.3g} to {high:.3g}, not in [-1, 1].")
        require(low < high, f"{stage}: {key} is constant.")
    if "latent" in encoded:
        latents: Tensor = batch["latent"]
        fits = latents.is_floating_point() and latents.ndim in (2, 4) and len(latents) == size
        require(fits and bool(latents.isfinite().all()), f"{stage}: latent is no finite float (B, D, h, w) or (B, D).")
    if "tokens" in encoded:
        tokens: Tensor = batch["tokens"]
        fits = tokens.dtype == torch.int64 and tokens.ndim == 2 and len(tokens) == size
        require(fits and bool((tokens >= 0).all()), f"{stage}: tokens is not int64 (B, N) from 0 up.")
    for field, said, claim in (("caption", spec.captions, "captions"), ("mask", spec.masks, "masks")):
        have = "have" if field in batch else "have no"
        require((field in batch) == said, f"{stage}: batches {have} {field!r} but the spec says {claim}={said}.")
    if "mask" in batch:
        _check_mask(batch["mask"], (size, 1, spec.height, spec.width), stage)
    if "caption" in batch:
        texts = batch["caption"]
        given = isinstance(texts, list) and len(texts) == size and all(isinstance(text, str) for text in texts)
        require(given, f"{stage}: caption is not a list with one text per sample.")
    if spec.class_names:
        require(isinstance(batch.get("label"), Tensor), f"{stage}: the spec names classes but batches have no label.")
        labels = batch["label"]
        inside = bool(((labels >= 0) & (labels < spec.num_classes)).all())
        require(labels.dtype == torch.int64 and inside, f"{stage}: labels are not int64 in [0, {spec.num_classes}).")


def _check_mask(mask: Any, shape: tuple[int, ...], stage: str) -> None:
    found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
    require(found == shape, f"{stage}: mask is {found}, not {shape}.")
    values = set(mask.unique().tolist())
    require(mask.dtype == torch.float32 and values <= {0.0, 1.0}, f"{stage}: mask is not float32 of 0 and 1.")
    require(1.0 in values, f"{stage}: all masks of a batch are empty. Sources give uint8 masks with 0 and 255.")


def _epoch(case: DataCase, stage: str, rank: int, world_size: int) -> list[int]:
    """Return the indices of the samples that one of several processes sees in an epoch."""
    data = _at(case, 0, rank, world_size, batch_size=64)
    if len(_source(data, stage)) > _WHOLE:
        not_applicable(f"it has more than {_WHOLE} samples")
    batches: Iterable[Any] = getattr(data, f"{stage}_dataloader")()
    return [number for batch in batches for number in batch["index"].tolist()]


def _at(case: DataCase, position: int, rank: int = 0, world_size: int = 1, *, batch_size: int = 4) -> ImageDataModule:
    """Return the data of one of several processes after a number of batches."""
    data = case.build(batch_size=batch_size)
    progress = SimpleNamespace(total=SimpleNamespace(processed=position))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = cast(Any, SimpleNamespace(global_rank=rank, world_size=world_size, fit_loop=loop, overfit_batches=0))
    return data


def _source(data: ImageDataModule, stage: str) -> Any:
    return data.train_source() if stage == "train" else data.val_source()


def _by_index(data: ImageDataModule, num_batches: int) -> dict[int, dict[str, Any]]:
    """Return the samples of the first training batches by index, in order."""
    found: dict[int, dict[str, Any]] = {}
    for _, batch in zip(range(min(num_batches, _BATCHES)), data.train_dataloader(), strict=False):
        for place, number in enumerate(batch["index"].tolist()):
            found[number] = {key: values[place] for key, values in batch.items()}
    return found


def _equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two samples are equal in all fields."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[key]) if isinstance(value, Tensor) else value == second[key]
        for key, value in first.items()
    )
