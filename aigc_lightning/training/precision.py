"""The meaning of `trainer.precision auto`, and the precision of matrix products on GPUs.

The choice depends only on the hardware, never on a measurement, so that a restarted run makes the same choice.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from lightning.pytorch import Trainer

from aigc_lightning.callbacks.ending import asking_to_stop
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.launch import agreed
from aigc_lightning.core.run.machine import bf16_support

AUTO = "auto"
FULL, HALF = "32-true", "bf16-mixed"
#: Compute capability of the first NVIDIA GPUs that multiply bf16 (Ampere).
_FIRST_CAPABILITY = (8, 0)


class Choice(NamedTuple):
    """A precision by Lightning's name, and the reason for it."""

    precision: str
    reason: str


if TYPE_CHECKING:
    Precision = Any
else:  # for the parser: Lightning's own, which have no public name
    Precision = inspect.signature(Trainer).parameters["precision"].annotation | Literal["auto"]


class RunTrainer(Trainer):
    """Lightning's trainer, whose option `precision` may also be "auto".

    Args:
        precision: one of Lightning's, or "auto": bf16-mixed if the device accelerates it, otherwise 32-true. It is
            resolved before a trainer is built.
    """

    def __init__(self, *args: Any, precision: Precision = "auto", **kwargs: Any) -> None:
        assert precision != "auto"
        #: The callback, model or data that asked the run to stop, if any.
        self.stopper: Any = None
        self._should_stop = False
        super().__init__(*args, precision=precision, **kwargs)

    @property
    def should_stop(self) -> bool:
        """Whether the run is to stop; Lightning's attribute, which here remembers who set it."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if bool(value) != self._should_stop:
            self.stopper = asking_to_stop() if value else None
        self._should_stop = bool(value)


def settle(values: Any, record: dict[str, Any] | None) -> str | None:
    """Replace the precision "auto" by a concrete one.

    Args:
        values: the options of a stage; `trainer.precision` is changed.
        record: the checkpoint that the stage resumes or uses, whose precision is kept; or None.

    Returns:
        A line that says what was chosen and why, or that a given precision is emulated; None for another one.
    """
    trainer = values.trainer
    if trainer.precision != AUTO:
        return _warning(trainer)
    if record is not None:
        # Older records do not name the precision: the default was 32-true.
        trainer.precision = record[RECORD_KEY].get("precision", FULL)
        return f"Precision {trainer.precision}: as in the checkpoint."
    if trainer.plugins:
        trainer.precision = None  # a plugin may be a precision itself, and Lightning refuses both
        return None
    chosen = Choice(*agreed("precision", lambda: "\n".join(choose(trainer))).split("\n"))
    trainer.precision = chosen.precision
    return f"Precision {chosen.precision}: {chosen.reason}."


def choose(trainer: Any) -> Choice:
    """Return the precision for the device that a run will use.

    Args:
        trainer: the trainer's settings; `accelerator` and `strategy` are used.
    """
    if uses_cuda(trainer):
        return _for_gpus(trainer)
    if trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not torch.backends.mps.is_available()):
        return _for_cpu()
    return Choice(FULL, "bf16 is chosen only on CPUs and NVIDIA GPUs; see --trainer.precision")


def _warning(trainer: Any) -> str | None:
    """Return a line about a given precision that the device only emulates, or None."""
    knows = uses_cuda(trainer) or trainer.accelerator == "cpu" or not torch.backends.mps.is_available()
    if not str(trainer.precision).startswith("bf16") or not knows or "forkserver" in str(trainer.strategy):
        return None
    found = choose(trainer)
    if found.precision == HALF:
        return None
    slow = f"Precision {trainer.precision} is emulated, which is slow: {found.reason}."
    return f"{slow} --trainer.precision auto avoids it."


def uses_cuda(trainer: Any) -> bool:
    """Return whether a run with these settings computes on NVIDIA GPUs."""
    return trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


@contextmanager
def fast_products() -> Iterator[None]:
    """Let GPUs multiply float32 matrices in TF32, as convolutions do by default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _for_gpus(trainer: Any) -> Choice:
    if "forkserver" in str(trainer.strategy):  # Lightning then refuses a process that has asked a GPU anything
        return Choice(FULL, "with the start method forkserver the GPU cannot be queried")
    weakest = min(range(torch.cuda.device_count()), key=torch.cuda.get_device_capability)
    major, minor = torch.cuda.get_device_capability(weakest)
    name = f"{torch.cuda.get_device_name(weakest)} (compute capability {major}.{minor})"
    if (major, minor) >= _FIRST_CAPABILITY:
        return Choice(HALF, f"{name} has units for bf16")
    return Choice(FULL, f"{name} has no units for bf16")


def _for_cpu() -> Choice:
    support = bf16_support()
    if support:
        return Choice(HALF, f"the CPU has {support}")
    return Choice(FULL, "the CPU has no instructions that make bf16 faster (AMX or AVX-512 BF16)")
