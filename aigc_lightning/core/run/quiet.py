"""Silences messages of Lightning and torch that are of no use to users of `aigc`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from aigc_lightning.core.io.output import SafeFormatter

_NOISE = (
    ".*does not have many workers.*",
    ".*is a wrapper around.*",
    ".*LeafSpec.*",
    ".*`isinstance\\(treespec.*",
    ".*smaller than the logging interval.*",
    ".*ckpt_path.*contains.*hparams.*",
    ".*Found .* module\\(s\\) in eval mode.*",  # the averages
    ".*exists and is not empty.*",
    ".*epoch parameter in `scheduler.step.*",
    ".*No audio backend.*",
    ".*`srun` command is available.*",  # also where torchrun was used, or no launcher is needed
)
_quiet = [False]


def is_quiet() -> bool:
    """Return whether the console is quiet, so that child processes can be quiet as well."""
    return _quiet[-1]


@contextmanager
def quiet_console() -> Iterator[None]:
    """Keep Lightning's advertisements and known harmless warnings off the console; real warnings stay."""
    # Filter the handlers that write to the screen, not the loggers: the run's log file keeps everything.
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    handlers = [handler for name in names for handler in logging.getLogger(name).handlers]
    before = [(handler.level, handler.formatter) for handler in handlers]
    with warnings.catch_warnings():
        for pattern in _NOISE:
            warnings.filterwarnings("ignore", pattern)
        for handler in handlers:
            handler.setLevel(logging.WARNING)
            handler.setFormatter(SafeFormatter())
        _quiet.append(True)
        try:
            yield
        finally:
            _quiet.pop()
            for handler, (level, formatter) in zip(handlers, before, strict=True):
                handler.setLevel(level)
                handler.setFormatter(formatter)
