"""Redaction of secrets in everything that is written: configs, records, logs, messages, pictures, job scripts.

Secrets are the values of options such as `api_key` and of environment variables with such names, and the login, query
values and fragment of a URL. Standard library only.
"""

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

#: Placeholder for a secret.
HIDDEN = "<hidden>"
#: Full URLs, separated by white space. A redacted URL in a config or record stands for the one here that it was made
#: from.
ADDRESSES_VARIABLE = "AIGC_ADDRESSES"

# A token ends a name (`hf_token`): `tokenizer` and `token_size` are ordinary options.
_SECRET = r"(?:(?:api|access|secret|private)_?key|passw(?:or)?d|secret|credential|token(?![a-z_\-]))"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
#: `--some.api_key VALUE`, `api_key=VALUE` and `"api_key": "VALUE"`.
_NAMED = rf"[\w.\-]*{_SECRET}[\w.\-]*"
_ASSIGNED = re.compile(rf"(--{_NAMED}\s+|{_NAMED}[\"']?\s?[=:]\s?)([\"']?)(?!null\b)[^\s\"',;}}&]+", re.IGNORECASE)
#: A URL that became a path has one slash after its scheme.
_ADDRESS = re.compile(rf"[A-Za-z][A-Za-z0-9+.\-]+:/{{1,2}}(?:{HIDDEN}|[^\s\"'<>`])+")
#: A query without its host, as in `GET /a.ckpt?token=x`.
_QUERY = re.compile(r"([?&][\w.\-%\[\]]+=)[^\s&\"'<>#]+")
_SHORTEST = 8  # minimum length of a secret that is hidden anywhere: shorter ones occur in ordinary words
#: Secrets of URLs given to this process, which libraries may repeat without the rest of the URL.
_met: set[str] = set()


def redacted(value: Any, name: str = "") -> Any:
    """Return a copy of plain values with secrets hidden.

    Args:
        value: numbers, texts, lists and mappings of these.
        name: of the option that the value belongs to.
    """
    if isinstance(value, Mapping):
        return {_hidden(key) if isinstance(key, str) else key: redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item, name) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and is_secret_name(name) else _hidden(value)
    return value


def redacted_text(text: str) -> str:
    """Return a text, such as a log line, with secrets hidden."""
    text = _hidden(text)
    return _ASSIGNED.sub(rf"\1\2{HIDDEN}", text) if _SECRET_NAME.search(text) else text  # the search is quick


def redacted_address(address: str) -> str:
    """Return a URL without its login, query values and fragment."""
    scheme, slashes, rest = re.split("(:/{1,2})", address, maxsplit=1)
    rest, has_fragment, fragment = rest.partition("#")
    rest, has_query, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    _, at, host = authority.rpartition("@")
    if re.search(r":(?!\d*$)", re.sub(r"^\[[^\]]*\]?", "", host)):
        return f"{scheme}{slashes}{HIDDEN}"  # no port after the colon: a login whose @ comes after one of / ? #
    shown = f"{scheme}{slashes}{HIDDEN if at else ''}{at}{host}{slash}{path}"
    parts = [_hidden_part(part) for part in re.split("([&;])", query)]
    return shown + has_query + "".join(parts) + has_fragment + (HIDDEN if fragment else "")


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Return whether the value of an option with this name is a secret."""
    return bool(_SECRET_NAME.search(name))


def meet(value: Any) -> None:
    """Remember the secrets of URLs in plain values, so that they are hidden wherever else they appear."""
    for address in addresses_in(value):
        _met.update(part for part in _secrets_of(address) if len(part) >= _SHORTEST)


def addresses_in(value: Any) -> Iterator[str]:
    """Yield the URLs in plain values, as whole texts or within texts."""
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            yield from addresses_in(item)
    elif isinstance(value, str) and ":/" in value:
        whole = not re.search(r"\s", value) and _ADDRESS.match(value)
        yield from [value] if whole else _ADDRESS.findall(value)


def revealed(address: str) -> str | None:
    """Return the full URL of a redacted one if `AIGC_ADDRESSES` has it, else None."""
    return next((known for known in _environment() if redacted_address(known) == address), None)


def known_addresses() -> set[str]:
    """Return the URLs of `AIGC_ADDRESSES`."""
    return set(_environment())


def _environment() -> list[str]:
    return os.environ.get(ADDRESSES_VARIABLE, "").split()


def _hidden(text: str) -> str:
    """Return a text without the secrets that are hidden anywhere."""
    for address in dict.fromkeys(addresses_in(text)):
        text = text.replace(address, redacted_address(address))
    if "=" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
    for secret in sorted(_known_secrets(text), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _known_secrets(text: str) -> set[str]:
    """Return the secrets of this process and its environment that occur in a text."""
    named = (os.environ[name] for name in os.environ if is_secret_name(name))
    listed = (part for address in _environment() for part in _secrets_of(address))
    known = {value for value in (*named, *listed) if len(value) >= _SHORTEST} | _met
    return {value for value in known if value in text}


def _secrets_of(address: str) -> Iterator[str]:
    """Yield the secret parts of a URL, both encoded and decoded."""
    rest, _, fragment = re.split(":/{1,2}", address, maxsplit=1)[1].partition("#")
    rest, _, query = rest.partition("?")
    login = rest.partition("/")[0].rpartition("@")[0]
    values = [part.rpartition("=")[2] for part in re.split("[&;]", query)]
    for part in (login, *login.split(":", 1), *values, fragment):
        yield from {part, unquote(part)} if part and HIDDEN not in part else ()


def _hidden_part(part: str) -> str:
    """Return a part of a query, or a separator between parts, without its value."""
    name, equals, value = part.partition("=")
    if not part or part in "&;":
        return part
    return f"{name}={HIDDEN if value else ''}" if equals else HIDDEN
