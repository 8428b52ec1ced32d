"""Imports never go in a circle, neither between the files of this package nor between those of its plugins."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import aigc_lightning

ROOT = Path(aigc_lightning.__file__).parent
PLUGINS = sorted(ROOT.parent.glob("plugins/*/src/*/__init__.py"))


class Imports(ast.NodeVisitor):
    """Collects what a file imports, inside of functions as well, but not what it imports for type checkers alone."""

    def __init__(self, module, files):
        self.module, self.files, self.found = module, files, set[str]()

    def visit_If(self, node):
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Import(self, node):
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        source = absolute(node, self.module, self.files)
        lazy = lazy_names(source, self.files.get(source))
        for alias in node.names:
            inner = f"{source}.{alias.name}"
            self.found.add(inner if inner in self.files else lazy.get(alias.name, source))


def absolute(node, module, files):
    if not node.level:
        return node.module
    parts = module.split(".")
    kept = len(parts) - node.level + (files[module].name == "__init__.py")
    return ".".join([*parts[:kept], *filter(None, [node.module])])


@cache
def lazy_names(package, init):
    """Return the modules of the names that a package loads on first use, which its stub lists."""
    stub = init and init.with_suffix(".pyi")
    if not stub or not stub.exists():
        return {}
    nodes = [node for node in ast.parse(stub.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    sources = {alias.name: absolute(node, package, {package: init}) for node in nodes for alias in node.names}
    return {name: f"{package}.{name}" if source == package else source for name, source in sources.items()}


def graph_of(root):
    """Return which modules each module of a package imports, of the same package."""
    paths = [path for path in root.rglob("*.py") if "templates" not in path.parts]
    names = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in paths]
    files = {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}
    graph = {}
    for module, path in files.items():
        imports = Imports(module, files)
        imports.visit(ast.parse(path.read_text(encoding="utf-8")))
        graph[module] = (imports.found & files.keys()) - {module}
    return graph


def by_package(graph):
    """Return which of the modules and packages that lie directly in a package import which others."""
    first = {module: ".".join(module.split(".")[:2]) for module in graph}
    return {
        node: {first[target] for module in graph if first[module] == node for target in graph[module]} - {node}
        for node in first.values()
    }


def circles(graph):
    """Return the sets of nodes that reach each other and so themselves."""
    reached = {node: reachable(node, graph) for node in graph}
    inside = [node for node in graph if node in reached[node]]
    return {frozenset(other for other in reached[node] if node in reached[other]) for node in inside}


def reachable(node, graph):
    seen: set[Any] = set()
    todo = [node]
    while todo:
        fresh = graph[todo.pop()] - seen
        seen |= fresh
        todo += fresh
    return seen


def test_no_files_import_each_other_in_a_circle():
    graph = graph_of(ROOT)
    assert len(graph) > 100 and sum(map(len, graph.values())) > 500
    assert circles(graph) == set()


@pytest.mark.parametrize("init", PLUGINS, ids=lambda init: init.parent.name)
def test_no_packages_of_a_plugin_import_each_other_in_a_circle(init):
    graph = graph_of(init.parent)
    assert circles(graph) == set() and circles(by_package(graph)) == set()


def test_circles_are_found_wherever_imports_stand(tmp_path):
    root = tmp_path / "house"
    texts = {
        "__init__.py": "",
        "kitchen/__init__.py": "import lazy_loader\n",
        "kitchen/__init__.pyi": "from .oven import Oven as Oven\n",
        "kitchen/oven.py": "def bake():\n    from house import cellar\n",
        "cellar.py": "from house.kitchen import Oven\n",
        "hall.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import house.stairs\n",
        "stairs.py": "from . import hall\nfrom .kitchen import table\n",
        "kitchen/table.py": "import house.hall\n",
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    graph = graph_of(root)
    assert graph["house.stairs"] == {"house.hall", "house.kitchen.table"}
    assert circles(graph) == {frozenset({"house.kitchen.oven", "house.cellar"})}
    assert circles(by_package(graph)) == {frozenset({"house.kitchen", "house.cellar"})}
