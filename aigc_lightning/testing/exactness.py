"""Training in one or several processes with every gradient recorded, to test for exact reproducibility."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.averaged import UPDATES_KEY
from aigc_lightning.core.engine.distributed import PlayersStrategy
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.run.processes import run_together
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.data.base import ImageDataModule

#: Creates a new model and its data; the data's batch size is per process.
Build = Callable[[int], tuple[ImageModel, ImageDataModule]]
#: Time limit for several processes in seconds.
LIMIT_S = 240.0
_TRACE, _CHECKPOINT = "trace.pt", "end.ckpt"


@dataclass
class Trace:
    """The results of a run.

    Args:
        gradients: for each optimizer step in order, (number of the optimizer, its gradients).
        indices: for each process and batch in order, the indices of its samples.
        checkpoint: the file saved at the end.
    """

    gradients: list[tuple[int, list[Tensor]]] = field(default_factory=list)
    indices: list[list[list[int]]] = field(default_factory=list)
    checkpoint: Path = Path()

    @property
    def saved(self) -> dict[str, Any]:
        """The content of the checkpoint."""
        checkpoint: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        return checkpoint


def train(
    build: Build,
    batch_size: int,
    max_steps: int,
    folder: Path,
    *,
    processes: int = 1,
    **options: Any,
) -> Trace:
    """Train on the CPU and return what happened.

    Args:
        build: creates model and data for a batch size; for several processes a module-level function or a `partial` of
            one, since each of them calls it.
        batch_size: of all processes together.
        max_steps: number of batches.
        folder: an empty or new folder for the results.
        processes: number of processes.
        **options: of `_fit` and of the trainer.

    Raises:
        OverdueError: several processes did not finish within `LIMIT_S`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fit = partial(_fit, build, batch_size // processes, max_steps, folder, **options)
    if processes == 1:
        fit()
    else:
        meeting = folder.resolve() / "meeting"
        meeting.unlink(missing_ok=True)
        run_together(_fit_one, fit, processes, meeting, count=processes, limit_s=LIMIT_S)
    trace = Trace(checkpoint=folder / _CHECKPOINT)
    parts = [torch.load(folder / f"{rank}_{_TRACE}", weights_only=True) for rank in range(processes)]
    trace.gradients = [(number, gradients) for number, gradients in parts[0]["gradients"]]
    trace.indices = [part["indices"] for part in parts]
    return trace


def _fit(
    build: Build,
    batch_size: int,
    max_steps: int,
    folder: Path,
    *,
    processes: int = 1,
    seed: int = 0,
    resume: Path | None = None,
    strategy: DDPStrategy | None = None,
    callbacks: Sequence[pl.Callback] = (),
    limit_val_batches: int = 0,
    **options: Any,
) -> None:
    """Train in this process, alone or as one of several.

    Args:
        build: creates model and data.
        batch_size: of this process.
        max_steps: number of batches.
        folder: for the results.
        processes: number of processes.
        seed: seed of the run.
        resume: a checkpoint to resume from.
        strategy: replaces the default strategy for several processes.
        callbacks: in addition to the one that records the results.
        limit_val_batches: number of batches per validation.
        **options: of the trainer.
    """
    pl.seed_everything(seed, verbose=False)
    model, data = build(batch_size)
    several = PlayersStrategy if isinstance(model, AdversarialModel) else DDPStrategy
    trainer = silent_trainer(
        devices=processes,
        strategy=(strategy or several()) if processes > 1 else "auto",
        max_steps=max_steps,
        callbacks=[_Keep(folder), *callbacks],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        num_sanity_val_steps=0,
        limit_val_batches=limit_val_batches,
        default_root_dir=folder,
        **options,
    )
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)


def _fit_one(rank: int, fit: Callable[..., None], processes: int, meeting: Path) -> None:
    """Train as one of several processes; they rendezvous through a file, since a port might be in use."""
    os.environ["LOCAL_RANK"] = str(rank)  # makes Lightning assume a launcher
    dist.init_process_group(
        "gloo", init_method=meeting.as_uri(), rank=rank, world_size=processes, timeout=timedelta(seconds=LIMIT_S)
    )
    fit(processes=processes)


def largest_difference(first: list[Tensor], second: list[Tensor]) -> float:
    """Return |a - b| / |b| over all tensors of two gradients together, in float64."""
    a, b = (torch.cat([tensor.double().flatten() for tensor in side]) for side in (first, second))
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def different_tensors(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return where two checkpoints differ in any bit: weights, averages, optimizers and schedulers."""
    sections = ("state_dict", "optimizer_states", "lr_schedulers", UPDATES_KEY)
    pairs = {section: (first.get(section), second.get(section)) for section in sections}
    return [place for section, pair in pairs.items() for place in _differences(*pair, section)]


def _differences(a: Any, b: Any, place: str) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{place}: different keys"]
        return [found for key in a for found in _differences(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f"{place}: different length"]
        pairs = zip(a, b, strict=True)
        return [found for i, (x, y) in enumerate(pairs) for found in _differences(x, y, f"{place}.{i}")]
    same = torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
    return [] if same else [place]


class _Keep(pl.Callback):
    """Records the gradient of every optimizer step and the samples of every batch, and saves them at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gradients: list[tuple[int, list[Tensor]]] = []
        self.indices: list[list[int]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for number, optimizer in enumerate(trainer.optimizers):
            # After the step: in Lightning's own loop the gradients are computed inside the step.
            optimizer.register_step_post_hook(self._hook(number))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.indices.append(batch["index"].tolist())

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        kept = {"gradients": self.gradients, "indices": self.indices}
        torch.save(kept, self.folder / f"{trainer.global_rank}_{_TRACE}")
        trainer.save_checkpoint(self.folder / _CHECKPOINT, weights_only=False)

    def _hook(self, number: int) -> Callable[..., None]:
        def keep(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            found = [parameter.grad.detach().clone() for parameter in parameters if parameter.grad is not None]
            self.gradients.append((number, found))

        return keep
