"""`aigc fit`, `validate`, `test` and `predict`: the part that runs before Lightning is imported."""

import os
import sys

from aigc_lightning.config.request import Stage, read_request
from aigc_lightning.config.stage_help import short_help
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.launch import launched


def fit(argv: list[str]) -> int:
    """Train a model on data; leaves a run folder with checkpoints, pictures and losses."""
    return _run("fit", argv)


def validate(argv: list[str]) -> int:
    """Score a checkpoint on held-out images."""
    return _run("validate", argv)


def test(argv: list[str]) -> int:
    """Score a checkpoint on the data's test images."""
    return _run("test", argv)


def predict(argv: list[str]) -> int:
    """Write a checkpoint's output for the data's test images."""
    return _run("predict", argv)


def _run(stage: Stage, argv: list[str]) -> int:
    request = read_request(stage, argv)
    if request.help:
        echo(*short_help(stage).split("\n"))
        return 0
    launch = launched()
    # Processes that the first one started know it by this variable.
    is_first = os.environ.get("LOCAL_RANK", "0") == "0" if launch is None else launch.rank == 0
    if is_first and "lightning" not in sys.modules and not request.prints_only:
        echo(f"Starting {request.name} ...", flush=True)

    from aigc_lightning.training.cli import run  # takes seconds: only after the command line has been validated

    run(stage, request)
    return 0
