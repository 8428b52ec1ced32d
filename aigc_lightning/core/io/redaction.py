"""Secrets are kept out of everything that is written: configs, records, logs, messages, pictures, job scripts.

Secrets are the values of options such as `api_key`, of environment variables with such names, and of an address its
login, the values of its query and its fragment. Standard library only.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

#: Stands where a secret was.
HIDDEN = "<hidden>"
#: Whole addresses, separated by white space. A hidden address in a config or record means the one here that it is of.
ADDRESSES_VARIABLE = "AIGC_ADDRESSES"

# A token ends a name (`hf_token`): `tokenizer` and `token_size` are ordinary options.
_SECRET = r"(?:(?:api|access|secret|private)_?key|passw(?:or)?d|secret|credential|token(?![a-z_\-]))"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
#: `--some.api_key VALUE`, `api_key=VALUE` and `"api_key": "VALUE"`.
_NAMED = rf"[\w.\-]*{_SECRET}[\w.\-]*"
_ASSIGNED = re.compile(rf"(--{_NAMED}\s+|{_NAMED}[\"']?\s?[=:]\s?)([\"']?)(?!null\b)[^\s\"',;}}&]+", re.IGNORECASE)
#: A path that was made of an address has one slash after its scheme.
_ADDRESS = re.compile(rf"[A-Za-z][A-Za-z0-9+.\-]+:/{{1,2}}(?:{HIDDEN}|[^\s\"'<>`])+")
#: A query without its address, as in `GET /a.ckpt?token=x`.
_QUERY = re.compile(r"([?&][\w.\-%\[\]]+=)[^\s&\"'<>#]+")
_SHORTEST = 8  # characters of a secret that is hidden wherever it stands: shorter ones are part of ordinary words
#: Secrets of addresses that this process was given, which libraries may repeat without the address around them.
_met: set[str] = set()


def redacted(value: Any, name: str = "") -> Any:
    """Return a copy of plain values in which secrets are hidden.

    Args:
        value: numbers, texts, lists and mappings of these.
        name: of the option that it belongs to.
    """
    if isinstance(value, Mapping):
        return {_hidden(key) if isinstance(key, str) else key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, name) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and _SECRET_NAME.search(name) else _hidden(value)
    return value


def redacted_text(text: str) -> str:
    """Return a text, such as a line of a log, in which secrets are hidden."""
    return _ASSIGNED.sub(rf"\1\2{HIDDEN}", _hidden(text))


def redacted_address(address: str) -> str:
    """Return an address without its login, the values of its query, and its fragment."""
    scheme, slashes, rest = re.split("(:/{1,2})", address, maxsplit=1)
    rest, has_fragment, fragment = rest.partition("#")
    rest, has_query, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    _, at, host = authority.rpartition("@")
    if re.search(r":(?!\d*$)", re.sub(r"^\[[^\]]*\]?", "", host)):
        return f"{scheme}{slashes}{HIDDEN}"  # no port follows the colon: a login whose @ comes after one of / ? #
    shown = f"{scheme}{slashes}{HIDDEN if at else ''}{at}{host}{slash}{path}"
    parts = [_hidden_part(part) for part in re.split("([&;])", query)]
    return shown + has_query + "".join(parts) + has_fragment + (HIDDEN if fragment else "")


def is_secret_name(name: str) -> bool:
    """Return whether the value of an option of this name is a secret."""
    return bool(_SECRET_NAME.search(name))


def meet(value: Any) -> None:
    """Remember the secrets of the addresses in plain values, so that they are hidden wherever else they turn up."""
    for address in addresses_in(value):
        _met.update(part for part in _secrets_of(address) if len(part) >= _SHORTEST)


def addresses_in(value: Any) -> Iterator[str]:
    """Yield the addresses in plain values, whole texts and parts of texts."""
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from addresses_in(item)
    elif isinstance(value, str) and ":/" in value:
        whole = not re.search(r"\s", value) and _ADDRESS.match(value)
        yield from [value] if whole else _ADDRESS.findall(value)


def revealed(address: str) -> str | None:
    """Return the address that a hidden one was made of, if `AIGC_ADDRESSES` has it; else None."""
    return next((known for known in _environment() if redacted_address(known) == address), None)


def known_addresses() -> set[str]:
    """Return the addresses of `AIGC_ADDRESSES`."""
    return set(_environment())


def _environment() -> list[str]:
    return os.environ.get(ADDRESSES_VARIABLE, "").split()


def _hidden(text: str) -> str:
    """Return a text without what is a secret wherever it stands."""
    for address in dict.fromkeys(addresses_in(text)):
        text = text.replace(address, redacted_address(address))
    if "=" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
    for secret in sorted(_known_secrets(text), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _known_secrets(text: str) -> set[str]:
    """Return the secrets of this process and its environment that are in a text."""
    named = (value for name, value in os.environ.items() if _SECRET_NAME.search(name))
    listed = (part for address in _environment() for part in _secrets_of(address))
    known = {value for value in (*named, *listed) if len(value) >= _SHORTEST} | _met
    return {value for value in known if value in text}


def _secrets_of(address: str) -> Iterator[str]:
    """Yield the parts of an address that are hidden, as they are written and as they are meant."""
    rest, _, fragment = re.split(":/{1,2}", address, maxsplit=1)[1].partition("#")
    rest, _, query = rest.partition("?")
    login = rest.partition("/")[0].rpartition("@")[0]
    values = [part.rpartition("=")[2] for part in re.split("[&;]", query)]
    for part in (login, *login.split(":", 1), *values, fragment):
        yield from {part, unquote(part)} if part and HIDDEN not in part else ()


def _hidden_part(part: str) -> str:
    """Return a part of a query, or what stands between two of them, without its value."""
    name, equals, value = part.partition("=")
    if not part or part in "&;":
        return part
    return f"{name}={HIDDEN if value else ''}" if equals else HIDDEN
