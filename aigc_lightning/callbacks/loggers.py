"""Loggers for a run's metrics and images. No logger can end a run, and none waits for an unavailable network."""

import importlib.util
import logging
import os
import re
import socket
import sys
import threading
import urllib.request
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import lightning.pytorch as pl
import numpy as np
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch import nn

from aigc_lightning.callbacks.metrics_file import MetricsFile
from aigc_lightning.core.io.atomic import found_inside, inside, open_regular, replacing
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.patience import within
from aigc_lightning.core.io.redaction import redacted, redacted_text
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.shell import command

#: Loggers that can be requested by name; `metrics.csv` is always written.
LOGGERS = ("tensorboard", "wandb")

_PATIENCE = 3.0  # seconds to wait for the W&B server
_LOGGER_PATIENCE = 60.0  # seconds that a logger may block a run, once
_log = logging.getLogger(__name__)

T = TypeVar("T")


@contextmanager
def warn_instead(what: str) -> Iterator[None]:
    """Turn an error inside the block into a one-line warning, for work that is not essential to a run."""
    try:
        yield
    except Exception as error:
        _log.warning("%s: %s", what, _short(error))


class SafeLogger(Logger):
    """Wraps another logger, which is disabled at its first error while the run continues.

    Args:
        inner: the wrapped logger.
        patience: seconds that one call may take before the logger is disabled; None for no limit.
    """

    def __init__(self, inner: Logger, patience: float | None = None) -> None:
        super().__init__()
        self.inner, self.patience = inner, patience
        self.working = True

    def attempt(self, action: Callable[[Logger], T], otherwise: T) -> T:
        """Return the result of the action on the inner logger, or the other value once the logger is disabled."""
        if self.working:
            try:
                return (
                    action(self.inner) if self.patience is None else within(self.patience, partial(action, self.inner))
                )
            except Exception as error:
                self.working = False
                name = type(self.inner).__name__
                _log.warning("%s is disabled, the run continues: %s", name, _short(error))
        return otherwise

    @property
    def name(self) -> str | None:
        """The inner logger's name."""
        return self.attempt(lambda logger: logger.name, None)

    @property
    def version(self) -> int | str | None:
        """The inner logger's version."""
        return self.attempt(lambda logger: logger.version, None)

    @property
    def save_dir(self) -> str | None:
        """The inner logger's folder."""
        return self.attempt(lambda logger: logger.save_dir, None)

    @property
    def experiment(self) -> Any:
        """The inner logger's backend; Lightning accesses it to start loggers early."""
        nothing = DummyLogger().experiment
        return self.attempt(lambda logger: getattr(logger, "experiment", nothing), nothing)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Forward metrics."""
        self.attempt(lambda logger: logger.log_metrics(metrics, step), None)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Forward the run's settings, without secrets."""
        plain = redacted(vars(params) if isinstance(params, Namespace) else params)
        self.attempt(lambda logger: logger.log_hyperparams(plain, *args, **kwargs), None)

    def log_graph(self, model: nn.Module, input_array: Any = None) -> None:
        """Forward the model."""
        self.attempt(lambda logger: logger.log_graph(model, input_array), None)

    def log_image(self, key: str, path: Path, step: int, caption: str = "") -> None:
        """Forward an image, if the inner logger supports images."""
        self.attempt(lambda logger: _log_image(logger, key, path, step, caption), None)

    def rewind(self, step: int) -> None:
        """Drop what was logged after a step, if the inner logger supports it."""
        self.attempt(lambda logger: logger.rewind(step) if isinstance(logger, MetricsFile) else None, None)

    def save(self) -> None:
        """Flush."""
        self.attempt(lambda logger: logger.save(), None)

    def finalize(self, status: str) -> None:
        """Close."""
        self.attempt(lambda logger: logger.finalize(status), None)


def make_loggers(
    names: Sequence[str], run_folder: Path, project: str = "aigc-lightning", run_name: str | None = None
) -> list[Logger]:
    """Return the loggers of a run, none of which can end it; the first one writes `metrics.csv`.

    Args:
        names: names in `LOGGERS`.
        run_folder: the folder of the run, in which every file is written.
        project: the W&B project; the variable WANDB_PROJECT takes precedence.
        run_name: the name of the run in W&B; None for the path of the folder.

    Raises:
        UserError: an unknown name, or a logger whose package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise UserError(f"There is no logger {name!r}.", did_you_mean(name, LOGGERS))
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"The logger {name} needs the package {name}, which is not installed.",
                "Run: pip install " + ('"aigc-lightning[tensorboard]"' if name == "tensorboard" else name),
            )
    loggers: list[Logger] = [MetricsFile(run_folder)]
    if getattr(rank_zero_only, "rank", 0) == 0:  # the other processes log nothing
        if "tensorboard" in names:
            inside(run_folder, "tensorboard", "any file")
            loggers.append(TensorBoardLogger(run_folder, name="", version="tensorboard", default_hp_metric=False))
        if "wandb" in names:
            loggers.append(_wandb_logger(run_folder, project, run_name or str(run_folder)))
    return [SafeLogger(loggers[0]), *(SafeLogger(logger, _LOGGER_PATIENCE) for logger in loggers[1:])]


def log_metrics(trainer: pl.Trainer, values: Mapping[str, float]) -> None:
    """Write metrics of the current step to all loggers."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=trainer.global_step)


def log_image(trainer: pl.Trainer, key: str, path: Path, step: int, caption: str = "") -> None:
    """Log an image to the loggers that support images.

    Args:
        trainer: the trainer of the run.
        key: such as `grids/samples`.
        path: a PNG file.
        step: the number of completed batches when the image was made.
        caption: shown below the image, where a logger can do that.
    """
    for logger in trainer.loggers:
        if isinstance(logger, SafeLogger):
            logger.log_image(key, path, step, caption)


def _log_image(logger: Logger, key: str, path: Path, step: int, caption: str) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_image(key, [str(path)], step=step, **({"caption": [caption]} if caption else {}))
    elif isinstance(logger, TensorBoardLogger):
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            colors = image.convert("RGBA" if image.mode == "RGBA" else "RGB")
        logger.experiment.add_image(key, np.asarray(colors), step, dataformats="HWC")


def _wandb_logger(run_folder: Path, project: str, run_name: str) -> WandbLogger:
    import wandb  # takes a second, so imported only by runs that log there

    run_id = _wandb_id(run_folder)
    mode = os.environ.get("WANDB_MODE") or None
    # What is not uploaded by then stays in the run's folder, for `wandb sync`.
    # Its record of the machine contains the whole command line, which may include a secret.
    command_line = " ".join(sys.argv)
    has_secrets = redacted_text(command_line) != command_line
    settings = wandb.Settings(finish_timeout=_LOGGER_PATIENCE, x_disable_meta=has_secrets)
    if mode is None and (reason := _why_offline()):
        mode = "offline"
        settings.silent = True  # the next line says it all
        upload = f"wandb login && {command('wandb', 'sync', run_folder)}/wandb/offline-run-*-{run_id}"
        echo(f"wandb: {reason}, so this run is logged to files. To upload it later: {upload}")
    logger = WandbLogger(
        name=run_name,
        save_dir=run_folder,
        id=run_id,
        project=os.environ.get("WANDB_PROJECT", project),
        mode=mode,
        settings=settings,
    )
    # Lightning passes a deprecated option, about which W&B warns in every run.
    getattr(logger, "_wandb_init", {}).pop("anonymous", None)
    return logger


def _wandb_id(run_folder: Path) -> str:
    """Return W&B's ID of a run, which stays the same when the run is resumed."""
    inside(run_folder, "wandb", "any file")
    run_folder.mkdir(parents=True, exist_ok=True)
    path = found_inside(run_folder, "wandb_id.txt")
    found = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    if not re.fullmatch("[0-9a-z]{8}", found):  # it becomes part of file names
        found = uuid.uuid4().hex[:8]
        with replacing(path) as temporary:
            temporary.write_text(found + "\n", encoding="utf-8")
    return found


def _why_offline() -> str:
    """Return why W&B cannot be reached, or "" if it can; W&B itself would wait 100 s and end the run."""
    import wandb

    url = os.environ.get("WANDB_BASE_URL") or str(wandb.setup().settings.base_url)
    if not _answers(url):  # first, since even a login that verifies nothing talks to the server once it has a key
        return f"{url} cannot be reached"
    try:
        return "" if wandb.login(prompt=False, verify=False) else "no API key on this machine"
    except wandb.Error as error:
        return _short(error)


def _answers(url: str) -> bool:
    """Return whether the server of a URL, or its proxy, accepts a connection."""
    try:
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    except ValueError:  # malformed
        return False
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, _PATIENCE).close()
        except OSError:
            return
        connected.set()

    # In a separate thread, since name resolution has no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return connected.is_set()


def _short(error: Exception) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
