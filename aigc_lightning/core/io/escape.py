"""Escaping of untrusted text, such as file names, for terminals, logs, pages and plots."""

import re

#: Control characters, line and paragraph separators, bidirectional controls, and lone surrogates,
#: with which Python represents the bytes of a name that is not UTF-8.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}


def shown(text: object) -> str:
    r"""Return a text with unprintable characters escaped, as in `caf\xe9.png` for a name in Latin-1.

    The result can be written to any UTF-8 stream and never holds a line break. It is for display only: a file is opened
    by its real name.

    Args:
        text: such as a name or a path.
    """
    return _HIDDEN.sub(_escaped, str(text))


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # an undecodable byte, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"
