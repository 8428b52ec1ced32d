"""The only YAML reader: safe, strict about duplicate keys, and protected against alias bombs.

Used by everything that reads presets and configs; depends only on yaml and the standard library.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aigc_lightning.errors import UserError

_MOST_BYTES = 10 * 2**20
#: Maximum number of values that aliases may add to those written out; a bomb of ten lines adds billions.
_MOST_REPEATED = 10_000
_STRING, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_FLOAT, _TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Loads plain values only; as in YAML 1.2, 1e-3 is a number, and a date is a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_FLOAT, _TIMESTAMP)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        UserError: it cannot be read, is not YAML, has a duplicate key, or has aliases that multiply its content.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES >> 20} MB.", "Give a config; configs have kilobytes.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: {error}", "Give a YAML file in UTF-8.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str = "A YAML value") -> Any:
    """Parse a YAML text.

    Args:
        text: the YAML.
        origin: where it comes from, for messages.

    Raises:
        UserError: it is not YAML, has a duplicate key, or has aliases that multiply its content.
    """
    node = _composed(text, origin)
    if node is None:
        return None
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _not_yaml(error, origin) from error
    finally:
        loader.dispose()


def check_yaml(text: str, origin: str = "A YAML value") -> None:
    """Check a YAML text before another library loads it; invalid YAML is left to that library.

    Raises:
        UserError: it has a duplicate key, or aliases that multiply its content.
    """
    try:
        _composed(text, origin)
    except UserError as error:
        if not isinstance(error.__cause__, yaml.YAMLError):
            raise


def _composed(text: str, origin: str) -> Node | None:
    """Return the checked nodes of a text."""
    try:
        node: Node | None = yaml.compose(text, Loader=_Loader)
        if node is not None:
            _Checker(origin).check(node)
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(error, origin) from error
    return node


class _Checker:
    """Visits each node of a text once, however often it is repeated.

    Args:
        origin: where the text comes from, for messages.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._sizes: dict[int, int | None] = {}  # of a node with all aliases expanded, by its id
        self._inner: list[Node] = []  # kept alive, so that no other node gets the same id

    def check(self, root: Node) -> None:
        """Reject duplicate keys and exploding or circular aliases."""
        size = self._size(root)
        if size - len(self._sizes) > _MOST_REPEATED:
            raise UserError(
                f"{self._origin} has aliases that expand {len(self._sizes):,} values to {size:,}.",
                "Write out what is repeated; no ordinary config needs so many.",
            )

    def _size(self, node: Node) -> int:
        if id(node) in self._sizes:
            size = self._sizes[id(node)]
            if size is None:
                raise UserError(
                    f"{self._origin}, {_line(node)}: an alias is inside the value it names.", "Write out its value."
                )
            return size
        self._sizes[id(node)] = None
        size = 1
        if isinstance(node, MappingNode):
            self._check_keys(node)
            size += sum(self._size(key) + self._size(value) for key, value in node.value)
        elif isinstance(node, SequenceNode):
            size += sum(self._size(item) for item in node.value)
        elif isinstance(node, ScalarNode) and node.tag == _STRING and "&" in node.value and "*" in node.value:
            size += self._size_as_yaml(node.value)
        self._sizes[id(node)] = size
        return size

    def _size_as_yaml(self, text: str) -> int:
        """Return the size of a text that is parsed as YAML once more, as jsonargparse does."""
        try:
            inner = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError:
            return 0
        if inner is None or isinstance(inner, ScalarNode):
            return 0
        self._inner.append(inner)
        return self._size(inner)

    def _check_keys(self, node: MappingNode) -> None:
        seen: dict[tuple[str, str], Node] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag == _MERGE:
                continue
            first = seen.setdefault((key.tag, key.value), key)
            if first is not key:
                raise UserError(
                    f"{self._origin}, {_line(key)}: the key {key.value!r} is given twice, first in {_line(first)}.",
                    "Join the two into one.",
                )


def _line(node: Node) -> str:
    return f"line {node.start_mark.line + 1}"


def _not_yaml(error: Exception, origin: str) -> UserError:
    if isinstance(error, RecursionError):
        return UserError(f"{origin} is nested too deeply.", "Give a config, which has a few levels.")
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(f"{origin} is not YAML{where}: {problem}", "Correct that line.")
