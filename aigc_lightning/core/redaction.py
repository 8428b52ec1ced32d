"""Secrets are kept out of everything that is written."""

import os
import re
from typing import Any

# A token ends a name (`hf_token`): `tokenizer` and `token_size` are ordinary options.
_SECRET = r"(?:(?:api|access|secret|private)_?key|passw(?:or)?d|secret|credential|token(?![a-z_\-]))"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
#: `--some.api_key VALUE`, `api_key=VALUE` and `"api_key": "VALUE"`.
_NAMED = rf"[\w.\-]*{_SECRET}[\w.\-]*"
_ASSIGNED = re.compile(rf"(--{_NAMED}\s+|{_NAMED}[\"']?\s?[=:]\s?)([\"']?)[^\s\"',;}}]+", re.IGNORECASE)
HIDDEN = "<hidden>"
_SHORTEST = 8  # characters of a secret in the environment: shorter ones are part of ordinary words


def redacted(value: Any, name: str = "") -> Any:
    """Return a copy of plain values in which secrets are hidden.

    Hidden are texts under a name such as `api_key`, `token` or `password`, logins inside addresses, and the values of
    environment variables with such names.
    """
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, name) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and _SECRET_NAME.search(name) else _known_hidden(value)
    return value


def redacted_text(text: str) -> str:
    """Return a text, such as a line of a log, in which secrets are hidden."""
    return _ASSIGNED.sub(rf"\1\2{HIDDEN}", _known_hidden(text))


def _known_hidden(text: str) -> str:
    text = _URL_LOGIN.sub(HIDDEN, text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _SECRET_NAME.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    return text
