"""The loop around an exported program that is one step of many, as a Python file that stands alone."""

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from aigc_lightning.core.export_graphs import ExportGraph

#: What the function `sample` of a loop is called with, and what returns the model's own result for it.
Example = tuple[Mapping[str, Any], Callable[[], Tensor]]


@dataclass(frozen=True)
class ExportLoop:
    """The loop around a program that is one step of many, such as a sampler: a Python file beside the program.

    Args:
        module: imports the standard library and NumPy, onnxruntime where it is run as a program, and names of `parts`.
            Its file is written beside the program, and its function `sample(run, settings, **example)` returns an
            array; `run` takes arrays by name and returns a list of outputs, like the program.
        settings: plain values that it needs; they are in the program's metadata.
        example: what `sample` is called with when it is compared with the model.
        expected: returns the model's own result for the example, a tensor.
        parts: modules like it, of which it uses names: they are copied into its file.
        others: further examples.
        programs: further programs, written beside the first. Each is an argument of `sample` by its name, which takes
            and returns what `run` does.
    """

    module: ModuleType
    settings: Mapping[str, Any]
    example: Mapping[str, Any]
    expected: Callable[[], Tensor]
    parts: Sequence[ModuleType] = ()
    others: Sequence[Example] = ()
    programs: Mapping[str, "ExportGraph"] = field(default_factory=dict)

    @property
    def examples(self) -> list[Example]:
        """All examples."""
        return [(self.example, self.expected), *self.others]

    def source(self) -> str:
        """Return the text of the file: imports of all modules, then the parts, then the module itself."""
        text = inspect.getsource(self.module)
        if not self.parts:
            return text
        texts = [*(inspect.getsource(part) for part in self.parts), text]
        trees = [ast.parse(each) for each in texts]
        defined = [name for tree in trees for name in _defined(tree)]
        assert len(defined) == len(set(defined)), "A part and the module define the same name."
        head = "\n".join(text.splitlines()[: trees[-1].body[0].end_lineno])  # the docstring
        imports = _imports(trees, {part.__name__ for part in self.parts})
        return "\n\n\n".join(["\n".join([head, "", *imports]), *map(_body, texts, trees)]) + "\n"


def _defined(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _imports(trees: Sequence[ast.Module], without: set[str]) -> list[str]:
    """Return the import statements of modules, sorted, each name once, but not those from some modules."""
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.Import):
            plain.add(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module not in without:
            names.setdefault(str(node.module), set()).update(ast.unparse(name) for name in node.names)
    return sorted(plain) + [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)]


def _body(text: str, tree: ast.Module) -> str:
    """Return what follows a module's docstring and imports."""
    last = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)][-1]
    return "\n".join(text.splitlines()[last.end_lineno :]).strip()
