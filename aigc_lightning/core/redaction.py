"""Secrets are kept out of everything that is written."""

import re
from typing import Any

_SECRET_NAME = re.compile(r"(api|access|secret|private)_?key|token|password|passwd|secret|credential", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
HIDDEN = "<hidden>"


def redacted(value: Any, name: str = "") -> Any:
    """Return a copy of plain values in which secrets are hidden.

    Hidden are texts under a name such as `api_key`, `token` or `password`, and logins inside addresses.
    """
    if isinstance(value, dict):
        return {key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, name) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and _SECRET_NAME.search(name) else _URL_LOGIN.sub(HIDDEN, value)
    return value
