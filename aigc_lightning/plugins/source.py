"""Static analysis of a plugin's source, without executing any of it.

Standard library only. The results are best guesses for listings: what cannot be determined is empty, and only importing
the plugin is conclusive.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path

from aigc_lightning.moved import new_path

_MOST_HOPS = 8
_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """Where a class or function is defined.

    Args:
        module: the module that defines it, which may differ from the one that an entry point names.
        path: the file.
        tree: syntax tree of the whole file.
        node: syntax tree of the class or function.
    """

    module: str
    path: Path
    tree: ast.Module
    node: _Named

    @property
    def class_path(self) -> str:
        """Its dotted path."""
        return f"{self.module}.{self.node.name}"

    @property
    def summary(self) -> str:
        """First line of its docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[0]

    @property
    def paper(self) -> str:
        """The text after `Paper:` in the module's docstring."""
        lines = (ast.get_docstring(self.tree) or "").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("Paper:")), "")

    @property
    def api(self) -> int | None:
        """The number that the class body assigns to `aigc_api`, if it does."""
        for node in self.node.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            if any(isinstance(target, ast.Name) and target.id == "aigc_api" for target in targets):
                return value.value if isinstance(value, ast.Constant) and type(value.value) is int else None
        return None

    @property
    def parameters(self) -> list[str]:
        """Argument names of its own `__init__`."""
        for node in self.node.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return [argument.arg for argument in (*node.args.args[1:], *node.args.kwonlyargs)]
        return []


def definition(value: str) -> Definition | None:
    """Return where an entry point's object is defined, following re-exports, or None if that is unknown.

    Args:
        value: `module:attribute`.
    """
    module, _, name = value.partition(":")
    for _ in range(_MOST_HOPS):
        path = source_file(module)
        tree = _tree(path) if path else None
        if path is None or not isinstance(tree, ast.Module):
            return None
        target = _named(tree, name)
        stub = path.with_suffix(".pyi")
        if target is None and stub.is_file() and isinstance(tree := _tree(stub), ast.Module):  # lazily loaded names
            target = _named(tree, name)
        if isinstance(target, _Named):
            return Definition(module, path, tree, target)
        if target is None:
            return None
        module, name = _origin(module, path, target, name)
    return None


@cache
def canonical(class_path: str) -> str:
    """Return the defining path of a class from a path where it is re-exported or used to be."""
    path = new_path(class_path)
    module, _, name = path.rpartition(".")
    found = definition(f"{module}:{name}") if module else None
    return found.class_path if found else path


def derives(value: str, wanted: str) -> bool | None:
    """Return whether an entry point's class derives from another class; None if its source does not tell.

    Args:
        value: `module:attribute`.
        wanted: the defining path of the other class.
    """
    found = definition(value)
    if found is None:
        return None
    if found.class_path == wanted:
        return True
    if not isinstance(found.node, ast.ClassDef):
        return False
    answers = [_base_derives(base, found, wanted) for base in found.node.bases]
    return True if True in answers else None if None in answers else False


def problem(value: str) -> str:
    """Return why an entry point cannot be loaded, as far as that is visible without importing it, or ""."""
    module, _, name = value.partition(":")
    if _spec(module.partition(".")[0]) is None:
        return f"its files are gone: there is no module {module.partition('.')[0]!r}"
    path = source_file(module)
    if path is None:
        return "" if _may_be_compiled(module) else f"there is no module {module!r}"
    for part in _parents(module):
        found = source_file(part)
        tree = _tree(found) if found else None
        if isinstance(tree, Exception):
            return f"{type(tree).__name__} in {found}: {tree}"
        missing = _missing_import(tree) if tree else ""
        if missing:
            return f"it needs {missing}, which is not installed"
    tree = _tree(path)
    if isinstance(tree, ast.Module) and any(map(_ends_the_program, tree.body)):
        return f"it ends the program when {module} is imported"
    if isinstance(tree, ast.Module) and name and _named(tree, name.partition(".")[0]) is None and _is_closed(tree):
        return f"the module {module} has no {name}"
    return ""


@cache
def source_file(module: str) -> Path | None:
    """Return the source of a module without importing its parents, as `find_spec` would."""
    top, *rest = module.split(".")
    spec = _spec(top)
    if spec is None:
        return None
    if not rest:
        path = Path(spec.origin) if spec.origin else None
        return path if path and path.suffix == ".py" and path.is_file() else None
    for location in spec.submodule_search_locations or ():
        base = Path(location).joinpath(*rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def package_folders(package: str) -> list[Path]:
    """Return the folders of a top-level package, whether or not it has been imported."""
    spec = _spec(package)
    return [Path(location) for location in (spec.submodule_search_locations if spec else None) or ()]


@cache
def preset_folder(package: str) -> Path | None:
    """Return the folder `configs` of a package: inside it if installed, beside it in a source checkout."""
    top, *rest = package.partition(":")[0].split(".")
    for root in package_folders(top) if rest else ():
        checkouts = [folder for folder in (root.parent, root.parent.parent) if (folder / "pyproject.toml").is_file()]
        for parent in (root, *checkouts):
            if parent.joinpath(*rest).is_dir():
                return parent.joinpath(*rest)
    return None


def forget_source() -> None:
    """Clear the caches, after an installation or a change of a file."""
    for cached in (preset_folder, canonical, source_file, _tree):
        cached.cache_clear()


def root_package(module: str) -> str:
    """Return the outermost package of a module that belongs to one distribution: namespace packages are shared."""
    parts = module.split(".")
    for number in range(1, len(parts)):
        prefix = ".".join(parts[:number])
        if source_file(prefix) is not None:
            return prefix
    return module if len(parts) > 1 and package_folders(parts[0]) else parts[0]


def _spec(top: str) -> ModuleSpec | None:
    try:
        if top in sys.modules:
            return PathFinder.find_spec(top) or sys.modules[top].__spec__
        return find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None


@cache
def _tree(path: Path) -> ast.Module | Exception:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        return error


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, including those under `if`, `try` and `with`."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _statements(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body)


def _named(tree: ast.Module, name: str) -> ast.stmt | None:
    """Return the statement of a module that defines a name."""
    for node in _statements(tree.body):
        if isinstance(node, _Named) and node.name == name:
            return node
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        else:
            continue
        if name in names:
            return node
    return None


def _origin(module: str, path: Path, node: ast.stmt, name: str) -> tuple[str, str]:
    """Return the module and the name that a re-export imports from."""
    if not isinstance(node, ast.ImportFrom):
        return "", name
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    source = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
    original = next((alias.name for alias in node.names if (alias.asname or alias.name) == name), name)
    return source, original


def _base_derives(base: ast.expr, found: Definition, wanted: str) -> bool | None:
    base = base.value if isinstance(base, ast.Subscript) else base  # a generic class with its parameters
    first, dot, rest = ast.unparse(base).partition(".")
    if not first.isidentifier():  # the result of a call
        return None
    node = _named(found.tree, first)
    if node is None:
        return False if _is_closed(found.tree) else None  # a class of Python itself, or one of a star import
    if isinstance(node, ast.ClassDef):
        return derives(f"{found.module}:{first}", wanted)
    if isinstance(node, ast.Import):
        path = next((alias.name for alias in node.names if alias.asname == first), first)
    else:
        path = ".".join(_origin(found.module, found.path, node, first))
    module, _, name = f"{path}{dot}{rest}".rpartition(".")
    if not module.strip("."):
        return None
    # Libraries know nothing of our classes, and parsing torch would take longer than the whole listing.
    foreign = module.partition(".")[0] in ("torch", "lightning", *sys.stdlib_module_names)
    if foreign and module.partition(".")[0] != wanted.partition(".")[0]:
        return False
    return derives(f"{module}:{name}", wanted)


def _ends_the_program(node: ast.stmt) -> bool:
    """Whether a statement of a module, which always runs when that is imported, is an exit."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return ast.unparse(node.value.func) in ("sys.exit", "os._exit", "exit", "quit")
    return isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("SystemExit")


def _is_closed(tree: ast.Module) -> bool:
    """Whether the module's names are statically known: no star import and no module `__getattr__`."""
    nodes = list(_statements(tree.body))
    stars = (isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in nodes)
    return not any(stars) and _named(tree, "__getattr__") is None


def _missing_import(tree: ast.Module) -> str:
    for node in tree.body:  # those under `if` and `try` may be optional
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names = [node.module]
        for name in (name.partition(".")[0] for name in names):
            if name not in sys.modules and _spec(name) is None:
                return name
    return ""


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: number + 1]) for number in range(len(parts))]


def _may_be_compiled(module: str) -> bool:
    """Whether there may be a module without source, such as an extension module."""
    top, *rest = module.split(".")
    folders = package_folders(top)
    if not rest or not folders:
        return not rest
    parent = [folder.joinpath(*rest[:-1]) for folder in folders]
    return any(found for folder in parent for found in folder.glob(f"{rest[-1]}.*"))
