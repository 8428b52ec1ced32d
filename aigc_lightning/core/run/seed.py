"""The seed of the run, from which every keyed random number is derived."""

import os
import random

import numpy as np
import torch

from aigc_lightning.core import keyed


def run_seed() -> int:
    """Return the seed set by `lightning.seed_everything` for this process and its children, by default 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def seed_everywhere(*key: int) -> None:
    """Seed the global generators of torch (on all devices in use), numpy and Python by a key."""
    seed = keyed.mixed(*key)
    # Not torch.manual_seed: it formats the call stack for each unused device, half a millisecond in all.
    torch.default_generator.manual_seed(seed >> 1)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed >> 1)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed >> 1)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
