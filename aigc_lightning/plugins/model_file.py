"""Models in a single Python file that no package has registered, such as `my_file.py:MyGAN`.

A file is code, so only the user names one: on the command line or in Python, never in a config or a checkpoint, which
may come from a stranger. For the rest of the process its class is a registered model like any other, whose "package" is
the file and whose "version" is the file's hash: both stand in the record of every checkpoint. Standard library only.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.plugins.entry import Plugin

#: Modules of model files begin with this, so that `random.py` cannot take the place of another module.
PREFIX = "model_file_"


class _Loader(SourceLoader):
    """Compiles the bytes that were hashed, even if the file has changed since; writes no bytecode beside it.

    Args:
        path: the file.
        content: of the file.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content = path, content

    def get_filename(self, fullname: str) -> str:
        """Return the path that tracebacks show."""
        return str(self.path)

    def get_data(self, path: str) -> bytes:
        """Return the source, whatever the path."""
        return self.content


class _Finder(MetaPathFinder):
    """Finds the modules of the registered files, which are only imported when their class is used."""

    def __init__(self) -> None:
        self.loaders: dict[str, _Loader] = {}
        self.models: dict[str, Plugin] = {}  # by class path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module of a registered file."""
        loader = self.loaders.get(fullname)
        return None if loader is None else spec_from_file_location(fullname, loader.path, loader=loader)


_finder = _Finder()


def is_model_file(text: str) -> bool:
    """Return whether a model is given as a file, as in `my_file.py:MyGAN`."""
    return text.endswith(".py") or text.rpartition(":")[0].endswith(".py")


def from_file(class_path: str) -> bool:
    """Return whether a class path is that of a model from a file, registered or not."""
    return class_path.startswith(PREFIX)


def models() -> tuple[Plugin, ...]:
    """Return the models of the registered files."""
    return tuple(_finder.models.values())


def add(text: str) -> Plugin:
    """Register the model of a file, without importing it; a file that has changed is read again.

    Args:
        text: `FILE.py:CLASS`.

    Raises:
        UserError: there is no such file or class, the file is not Python, or another file has the same name.
    """
    where, _, name = ("", "", "") if text.endswith(".py") else text.rpartition(":")
    path = Path(where or text)
    content = _content(path)
    classes = _classes(path, content)
    if name not in classes:
        what = f"{path} has no class {name!r}." if name else f"{path} is given without a class."
        shown = f"Write FILE.py:CLASS, such as {path}:{classes[-1]}" if classes else "Give a file with a model."
        raise UserError(what, did_you_mean(name, classes) or shown)
    module = PREFIX + re.sub(r"\W", "_", path.stem)
    known = _finder.loaders.get(module)
    if known is not None and known.path != path.resolve():
        raise UserError(f"{path} and {known.path} have the same name.", "Rename one of the two files.")
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    if known is None or known.content != content:
        sys.modules.pop(module, None)
        _finder.loaders[module] = _Loader(path.resolve(), content)
    version = f"sha256:{hashlib.sha256(content).hexdigest()[:16]}"
    plugin = Plugin("model", name, path.name, version, f"{module}:{name}")
    _finder.models[plugin.class_path] = plugin
    return plugin


def option_of(class_path: str) -> list[str]:
    """Return what a command needs to use a registered file's model again; nothing for other models."""
    plugin = _finder.models.get(class_path)
    if plugin is None:
        return []
    return ["--model-file", f"{_finder.loaders[plugin.module].path}:{plugin.name}"]


def missing(class_path: str) -> tuple[str, str]:
    """Return a message and a hint for a model whose file has not been given."""
    module, _, name = class_path.removeprefix(PREFIX).partition(".")
    return (
        f"a {name} of a file {module}.py, which is code and runs only if you name it",
        f"If you trust your copy of the file, add: --model-file {module}.py:{name}",
    )


def changes(record: dict[str, Any], origin: Path) -> list[str]:
    """Return a note if a model's file has changed since a checkpoint was written.

    Args:
        record: of the checkpoint.
        origin: the checkpoint.
    """
    plugin = _finder.models.get(record["class_path"])
    then = plugin and record["versions"].get(plugin.distribution)
    if plugin is None or then == plugin.version:
        return []
    what = f"{plugin.distribution} has changed since: it was {then or 'unknown'} and is {plugin.version}."
    return [f"Note on {origin}: {what}"]


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"There is no file {path}.", "Give the model as FILE.py:CLASS.")
    return path.read_bytes()


def _classes(path: Path, content: bytes) -> list[str]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{path} is not valid Python{where}: {error}.", "Correct the file.") from error
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
