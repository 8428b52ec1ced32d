"""What docstrings say about arguments; standard library only."""

import inspect
import re
from typing import Any

_SECTION = re.compile(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", re.MULTILINE)


def argument_texts(target: Any) -> dict[str, str]:
    """Return what the `Args:` section of a class's or function's docstring says about each argument."""
    section = _SECTION.search(inspect.cleandoc(target.__doc__ or ""))
    texts: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines() if section else []:
        entry = re.match(r" {4}(\w+)(?: \(.*?\))?: (.*)", line)
        if entry:
            name = entry[1]
            texts[name] = entry[2].strip()
        elif name and line.strip():
            texts[name] += f" {line.strip()}"
    return texts


def inherit_argument_texts(cls: type) -> None:
    """Complete a class's docstring by what its bases say about arguments that it takes and does not describe itself."""
    text = inspect.cleandoc(cls.__doc__ or "")
    known: dict[str, str] = {}
    for base in reversed(cls.__mro__[1:]):
        known |= argument_texts(base)
    own = argument_texts(cls)
    names = [name for name in inspect.signature(cls).parameters if name in known and name not in own]
    if not text or not names:
        return
    section = _SECTION.search(text)
    before, after = (text[: section.end()], text[section.end() :]) if section else (f"{text}\n\nArgs:", "")
    lines = (f"    {name}: {known[name]}" for name in names)
    cls.__doc__ = "\n".join([before.rstrip(), *lines, "", after]).rstrip() + "\n"
