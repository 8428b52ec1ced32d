"""What Lightning and torch say that people who run `aigc` cannot use."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
)


@contextmanager
def quiet_console() -> Iterator[None]:
    """Keep Lightning's advertisements and known harmless warnings off the console; real warnings stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for pattern in _NOISE:
            warnings.filterwarnings("ignore", pattern)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
