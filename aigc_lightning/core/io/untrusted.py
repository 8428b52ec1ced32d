"""Names of files and digests that come from an index, an archive, a manifest, a record, a header or a server.

Whoever wrote them may be a stranger: `../../x` or `/home/u/.bashrc` for the name of a file would make a command read or
write wherever they like. Everything of this kind is checked here. Standard library only.
"""

import os
import re

from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError

#: Bytes of a name. File systems take 255, and names beside it get an ending or two.
_LONGEST = 200
#: Devices of Windows, whatever ending they have.
_RESERVED = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
_RESERVED |= {f"{port}{number}" for port in ("COM", "LPT") for number in "123456789¹²³"}
_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_HINT = "It was not written by aigc_lightning, or was changed since; get it anew from where you trust it."


def file_name(name: object, where: object, suffix: str = "") -> str:
    """Return a name if a file may be made by it: without a folder, and good on every system.

    Args:
        name: what is written there.
        where: in which file or at which address it is written, for the message.
        suffix: how it has to end.

    Raises:
        UserError: it is no such name.
    """
    problem = _problem(name) or _unportable(str(name)) or ("" if str(name).endswith(suffix) else f"no {suffix} file")
    if problem:
        raise UserError(f"{where} names the file {_quoted(name)}: {problem}.", _HINT)
    return str(name)


def relative_name(name: object, where: object) -> str:
    """Return the path of a file relative to a folder if it stays in there, in POSIX form.

    It is for files that are there already and that a person has named: they need not suit other systems.

    Args:
        name: what is written there.
        where: in which file it is written, for the message.

    Raises:
        UserError: it is no such path.
    """
    parts = name.split("/") if isinstance(name, str) else [name]
    if problem := next((found for part in parts if (found := _problem(part))), ""):
        raise UserError(f"{where} names the file {_quoted(name)}: {problem}.", _HINT)
    return str(name)


def digest(text: object, where: object, digits: int) -> str:
    """Return a digest if it is one: so many hexadecimal digits in lower case.

    Args:
        text: what is written there.
        where: in which file it is written, for the message.
        digits: how many there are.

    Raises:
        UserError: it is no such digest.
    """
    if not isinstance(text, str) or len(text) != digits or not _HEXADECIMAL.fullmatch(text):
        raise UserError(f"{where} has {_quoted(text)} for a digest of {digits} hexadecimal digits.", _HINT)
    return text


def _problem(name: object) -> str:
    """Return what is wrong with a name anywhere, "" for nothing."""
    if not isinstance(name, str):
        return f"it is a {type(name).__name__}"
    if name in ("", ".", ".."):
        return "it is no name" if name != ".." else "it leads out of its folder"
    if "/" in name or (os.name == "nt" and re.search(r"[\\:]", name)):
        return "it has a separator of folders"
    if "\0" in name:
        return "it has a control character"
    return "it is too long" if len(name.encode("utf-8", "surrogatepass")) > 255 else ""


def _unportable(name: str) -> str:
    """Return what is wrong with a name on some systems, "" for nothing."""
    if name.partition(".")[0].rstrip(" ").upper() in _RESERVED:
        return "it is the name of a device on Windows"
    if name.endswith((".", " ")):
        return "it ends in a character that Windows drops"
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
    except UnicodeEncodeError:  # bytes that Python keeps as surrogates
        return False


def _quoted(name: object) -> str:
    text = shown(name)
    return f'"{text}"' if len(text) <= 100 else f'"{text[:100]}..."'
