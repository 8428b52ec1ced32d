"""Errors of Lightning and jsonargparse, said in the user's words."""

import re
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import OutOfMemoryError

from aigc_lightning.errors import UserError, did_you_mean


@contextmanager
def explained(stage: str, *, running: bool = False) -> Iterator[None]:
    """Turn errors that come from the user's input into `UserError`.

    Args:
        stage: whose options are being read.
        running: whether training has begun; then an unknown error is a program error and keeps its traceback.
    """
    try:
        yield
    except UserError:
        raise
    except SystemExit as exit_:
        if exit_.code in (0, None) or running:
            raise
        raise UserError(f"The options of `aigc {stage}` could not be read.", f"See: aigc {stage} --help") from exit_
    except Exception as error:
        cause = _user_error_inside(error)
        if cause is not None:
            raise cause from error
        known = _known(stage, error)
        if known is not None:
            raise known from error
        if running:
            raise
        raise UserError(
            f"{type(error).__name__}: {_shortened(str(error))}", f"See: aigc {stage} --help, or add --debug."
        ) from error


def _user_error_inside(error: BaseException) -> UserError | None:
    """Return the error of ours that another library has wrapped, if there is one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _known(stage: str, error: Exception) -> UserError | None:
    text = str(error)
    if isinstance(error, ArgumentError) or type(error).__name__ in ("ArgumentError", "ParserError"):
        return _option_error(stage, text)
    if isinstance(error, MisconfigurationException):
        hint = "Use --trainer.accelerator auto, which takes what there is." if "ccelerator" in text else ""
        return UserError(_shortened(text), hint or f"See: aigc {stage} --help")
    if isinstance(error, OutOfMemoryError):
        return UserError(
            "The GPU's memory is full.", "Use a smaller --data.batch_size or more --engine.micro_batches."
        )
    return None


def _option_error(stage: str, text: str) -> UserError:
    text = _relieved(text)
    unknown = re.search(r"(?:Option|Key|Group key|[Uu]nrecognized arguments?:?)\s*['\"]?-{0,2}([\w.\-]+)['\"]?", text)
    if unknown and ("not accepted" in text or "not expected" in text or "nrecognized" in text or "not valid" in text):
        return UserError(f"There is no option {unknown[1]}.", _nearest_option(stage, unknown[1]))
    lines = [line.strip(" -") for line in text.splitlines() if line.strip(" -")]
    what = re.sub(r"^Parser key \"?([\w.]+)\"?:", r"The value of \1 is wrong:", lines[0])
    if what.rstrip().endswith(":") and len(lines) > 1:
        what = f"{what} {lines[1]}"
    return UserError(_shortened(what), f"See: aigc {stage} --help, or --help-all for every option.")


def _relieved(text: str) -> str:
    """Drop what jsonargparse puts around a message."""
    return re.sub(r"^(Validation failed|Problem with given class_path [^\n]*|Parser error):\s*", "", text.strip())


def _nearest_option(stage: str, name: str) -> str:
    """Return the nearest options by name, those of the stage and of all registered models and data."""
    from aigc_lightning.commands.options import option_names

    known = option_names(stage)
    leaf = name.rpartition(".")[2]
    near = did_you_mean(name, known) if name not in known else ""
    if not near or near.startswith("Known"):
        leaves = {option.rpartition(".")[2]: option for option in known}
        hint = did_you_mean(leaf, leaves)
        near = hint if hint.startswith("Did") else ""
    return near or f"See: aigc {stage} --help, or --help-all for every option."


def _shortened(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]} ..."

