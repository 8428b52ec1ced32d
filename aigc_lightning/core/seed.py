"""The seed of the run, from which every keyed random number is made."""

import os
import random

import numpy as np
import torch

from aigc_lightning.core import keyed


def run_seed() -> int:
    """Return the seed that `lightning.seed_everything` set for this process and its children, 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def seed_everywhere(*key: int) -> None:
    """Seed the global generators of torch (all devices), numpy and Python by a key."""
    seed = int(keyed.hashed(*key))
    torch.manual_seed(seed >> 1)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
