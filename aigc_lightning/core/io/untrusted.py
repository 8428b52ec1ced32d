"""Checks of untrusted file names and digests from an index, archive, manifest, record, header or server.

Their author may be hostile: a file name such as `../../x` or `/home/u/.bashrc` would make a command read or write
anywhere. All such names are checked here. Standard library only.
"""

import os
import re

from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError

#: Maximum length of a name in bytes. File systems allow 255, and derived names get a suffix or two.
_LONGEST = 200
#: Names of Windows devices, with any extension.
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
_RESERVED |= {f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"}
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_HINT = "It was not written by aigc_lightning or was changed since; get it again from a source that you trust."


def file_name(name: object, where: object, suffix: str = "") -> str:
    """Return a name if it is safe for a new file: without folders, and valid on every system.

    Args:
        name: the untrusted name.
        where: the file or URL that contains it, for the message.
        suffix: required extension.

    Raises:
        UserError: it is not safe.
    """
    problem = _problem(name) or _unportable(str(name)) or ("" if str(name).endswith(suffix) else f"no {suffix} file")
    if problem:
        raise UserError(f"{where} names the file {_quoted(name)}: {problem}.", _HINT)
    return str(name)


def relative_name(name: object, where: object) -> str:
    """Return a relative path, in POSIX form, if it stays inside its folder.

    It is for existing files named by people: they need not be valid on other systems.

    Args:
        name: the untrusted name.
        where: the file that contains it, for the message.

    Raises:
        UserError: it leaves the folder or is not a path.
    """
    parts = name.split("/") if isinstance(name, str) else [name]
    if problem := next((found for part in parts if (found := _problem(part))), ""):
        raise UserError(f"{where} names the file {_quoted(name)}: {problem}.", _HINT)
    return str(name)


def digest(text: object, where: object, digits: int) -> str:
    """Return a digest if it has the given number of hexadecimal digits in lower case.

    Args:
        text: the untrusted digest.
        where: the file that contains it, for the message.
        digits: required number of digits.

    Raises:
        UserError: it is not a digest.
    """
    if not isinstance(text, str) or len(text) != digits or not _HEXADECIMAL.fullmatch(text):
        raise UserError(f"{where} has {_quoted(text)} for a digest of {digits} hexadecimal digits.", _HINT)
    return text


def _problem(name: object) -> str:
    """Return what is wrong with a name on any system, "" for nothing."""
    if not isinstance(name, str):
        return f"it is a {type(name).__name__}"
    if name in ("", ".", ".."):
        return "it is not a file name" if name != ".." else "it leads out of its folder"
    if "/" in name or (os.name == "nt" and re.search(r"[\\:]", name)):
        return "it has a path separator"
    if "\0" in name:
        return "it has a control character"
    return "it is too long" if len(name.encode("utf-8", "surrogatepass")) > 255 else ""


def _unportable(name: str) -> str:
    """Return what is wrong with a name on some systems, "" for nothing."""
    if name.partition(".")[0].rstrip(" ").upper() in _RESERVED:
        return "it is a device name on Windows"
    if name.endswith((".", " ")):
        return "it ends with a character that Windows drops"
    if not _is_unicode(name):
        return "it is not UTF-8"
    if shown(name) != name:
        return "it has a control character"
    if found := re.search('[\\\\<>:"|?*]', name):
        return f"it has the character {found[0]}"
    return "it is too long" if len(name.encode()) > _LONGEST else ""


def _is_unicode(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # undecodable bytes, which Python keeps as surrogates
        return False


def _quoted(name: object) -> str:
    text = shown(name)
    return f'"{text}"' if len(text) <= 100 else f'"{text[:100]}..."'
