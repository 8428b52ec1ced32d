"""The options `--sign` and `--watermark` of commands that write pictures; standard library only."""

import argparse
import os
from pathlib import Path

#: Names a folder of keys; where it is set, every picture is signed.
FOLDER_VARIABLE = "AIGC_SIGN"


def add_sign_option(parser: argparse.ArgumentParser) -> None:
    """Add `--sign` and `--watermark` to a command that writes pictures."""
    parser.add_argument(
        "--watermark",
        metavar="RUN",
        help="run or checkpoint of a watermark, which is written into the pixels before signing; see docs/trust.md",
    )
    parser.add_argument(
        "--sign",
        action="store_true",
        help="sign the pictures with the keys of `aigc trust keys new`, or of the folder that "
        f"{FOLDER_VARIABLE} names, which signs without --sign",
    )


def default_keys() -> Path:
    """Return the folder of keys: AIGC_SIGN, or `aigc_lightning/keys` among the user's settings."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "aigc_lightning" / "keys"


def signing_keys(sign: bool) -> Path | None:
    """Return the folder of the keys to sign with; None where nothing is to be signed.

    Args:
        sign: whether `--sign` is given.
    """
    return default_keys() if sign or os.environ.get(FOLDER_VARIABLE) else None
