"""Timing of `aigc fit` and a plain loop in one process, in alternating blocks of steps."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl

from aigc_lightning.callbacks.interruption import Interruption
from aigc_lightning.callbacks.loggers import make_loggers
from aigc_lightning.callbacks.loss_log import LossLog
from aigc_lightning.callbacks.progress import Progress
from aigc_lightning.core.run.quiet import quiet_console

WARM_UP = 2  # blocks that are not counted


class Times(NamedTuple):
    """Seconds per step.

    Args:
        cpu: CPU time of all threads of the process, without other processes.
        wall: wall time.
    """

    cpu: float
    wall: float


def now() -> Times:
    """Return the current times."""
    return Times(time.process_time(), time.perf_counter())


def block(step: Callable[[], None], steps: int, settle: Callable[[], None] = lambda: None) -> Times:
    """Run some steps and return the seconds per step.

    Args:
        step: a step of the plain loop.
        steps: number of steps.
        settle: waits for the device.
    """
    began = now()
    for _ in range(steps):
        step()
    settle()
    return since(began, steps)


def since(began: Times, steps: int) -> Times:
    """Return the seconds per step since a given time."""
    return Times(*((end - begin) / steps for begin, end in zip(began, now(), strict=True)))


class Alternate(pl.Callback):
    """Times blocks of the trainer's steps, each followed by a block of the plain loop.

    Args:
        plain: runs a block of the plain loop and returns the seconds per step.
        steps: number of steps per block.
        settle: waits for the device.
    """

    def __init__(self, plain: Callable[[], Times], steps: int, settle: Callable[[], None] = lambda: None) -> None:
        self.plain, self.steps, self.settle = plain, steps, settle
        self.ours: list[Times] = []
        self.theirs: list[Times] = []
        self.began = now()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Close a block."""
        if trainer.global_step % self.steps:
            return
        self.settle()
        self.ours.append(since(self.began, self.steps))
        self.theirs.append(self.plain())
        self.began = now()


def medians(blocks: Sequence[Times]) -> Times:
    """Return the medians of all blocks but the first."""
    return Times(*(statistics.median(times) for times in zip(*blocks[WARM_UP:], strict=True)))


def fit(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    callbacks: list[pl.Callback],
    accelerator: str = "cpu",
    **options: Any,
) -> None:
    """Train as `aigc fit` does, but without grids, checkpoints and validation, whose cost depends on their frequency.

    Args:
        model: to train.
        data: to train on.
        callbacks: in addition to those of `aigc fit`.
        accelerator: Lightning's name of it.
        **options: of the trainer, such as `max_steps`.
    """
    with tempfile.TemporaryDirectory() as folder, quiet_console():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            logger=make_loggers([], Path(folder)),
            callbacks=[LossLog(), Progress(), Interruption(), *callbacks],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            **options,
        )
        trainer.fit(model, data)
