"""The seed of the run, from which every keyed random number is made."""

import os


def run_seed() -> int:
    """Return the seed that `lightning.seed_everything` set for this process and its children, 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
