"""Environment variables that a run sets, for itself and for the processes that it starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def restored_environment() -> Iterator[None]:
    """Restore all environment variables afterwards, so that a later run in the same process is another run."""
    variables = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(variables)


def find_no_gpus_fast() -> None:
    """Where there is no NVIDIA GPU, let torch find that out from CUDA, which remembers it.

    Before every update of the weights an optimizer asks whether there is a GPU. Lightning makes torch ask the driver's
    library NVML, so that processes can still be forked; where there is none, torch tries to load it each time, which
    takes 0.07 to 0.35 milliseconds.
    """
    if not torch.cuda.is_available():
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
