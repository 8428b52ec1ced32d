"""Prompts from the command line and from files; standard library only."""

from collections.abc import Sequence
from pathlib import Path

from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError

_MOST_BYTES = 64 * 2**20


def read_prompts(given: Sequence[str], file: Path | None = None) -> list[str]:
    """Return prompts in order, those of the file last, each once; runs of white space become single spaces.

    Args:
        given: texts of the command line.
        file: a UTF-8 text file with one prompt per line; empty lines are skipped.

    Raises:
        UserError: a text is empty, or the file cannot be read or has no prompt.
    """
    prompts = [" ".join(text.split()) for text in given]
    if "" in prompts:
        raise UserError("--prompt is empty.", 'Write what to draw: --prompt "a red circle".')
    if file is not None:
        lines = _content(file).split("\n")
        found = [prompt for line in lines if (prompt := " ".join(line.split()))]
        if not found:
            raise UserError(f"{shown(file)} has no prompts.", "Write one in each line.")
        prompts += found
    return list(dict.fromkeys(prompts))


def _content(file: Path) -> str:
    try:
        with open_regular(file) as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"{shown(file)} cannot be read: {error.strerror}.", "Give a text file.") from error
    if len(content) > _MOST_BYTES:
        raise UserError(f"{shown(file)} has more than {_MOST_BYTES // 2**20} MiB.", "Split it.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(file)} is not UTF-8.", "Save it as UTF-8.") from error
