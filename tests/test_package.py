"""What is installed."""

import ast
import sys
import tomllib
from importlib import import_module
from importlib.metadata import entry_points, requires
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

import aigc_lightning
from aigc_lightning import moved, plugins
from aigc_lightning.core.io import atomic
from aigc_lightning.inference import loaded_model
from aigc_lightning.plugins.source import canonical

ROOT = Path(aigc_lightning.__file__).parent
PROJECT = (
    tomllib.loads((ROOT.parent / "pyproject.toml").read_text()) if (ROOT.parent / "pyproject.toml").exists() else {}
)


def public_names():
    for stub in ROOT.rglob("__init__.pyi"):
        package = ".".join(stub.parent.relative_to(ROOT.parent).parts)
        yield from ((package, name) for name in import_module(package).__all__ if name != "__version__")


@pytest.mark.parametrize(("package", "name"), list(public_names()))
def test_public_names_load_on_use(package, name):
    found = getattr(import_module(package), name)
    assert found.__name__ == (f"{package}.{name}" if isinstance(found, ModuleType) else name)


def test_old_names_of_modules_go_on_working():
    generating: Any = import_module("aigc_lightning.commands.generating")
    digits: Any = import_module("aigc_lightning.data.digits")
    from aigc_lightning.core import files  # type: ignore[attr-defined]  # found when it is asked for

    assert (generating.UsedModel, digits.Digits) == (aigc_lightning.LoadedModel, aigc_lightning.data.Digits)
    assert generating.class_number is loaded_model.class_number and files.replacing is atomic.replacing
    assert canonical("aigc_lightning.data.digits.Digits") == "aigc_lightning.data.sets.digits.Digits"
    assert canonical("aigc_lightning.data.Digits") == "aigc_lightning.data.sets.digits.Digits"
    assert canonical("aigc_lightning.core.engine.Engine") == "aigc_lightning.core.engine.settings.Engine"
    with pytest.raises(ImportError):
        from aigc_lightning.core import nothing  # type: ignore[attr-defined]  # noqa: F401  # on purpose
    for old, new in moved._MOVED.items():
        import_module(f"aigc_lightning.{new}")
        assert not (ROOT / f"{old.replace('.', '/')}.py").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Nothing"):
        _ = aigc_lightning.Nothing  # type: ignore[attr-defined]  # on purpose


def test_public_names_are_those_that_the_documentation_lists():
    for package, names in {
        "losses": {"nonsaturating", "hinge", "least_squares", "wasserstein", "penalties"},
        "networks": {"make_norm"},
        "metrics": {"frechet_distance", "sliced_wasserstein", "psnr"},
        "evaluation": {"FeatureNetwork"},
        "testing": {"ModelConformance", "DataConformance", "NoiseImages"},
    }.items():
        assert names <= {*dir(import_module(f"aigc_lightning.{package}"))}
    assert aigc_lightning.networks.make_norm is import_module("aigc_lightning.networks.norms").make_norm  # type: ignore[attr-defined]


def test_importing_and_listing_public_names_imports_no_torch(aigc_process):
    packages = ", ".join(sorted({package for package, _ in public_names()}))
    program = f"import sys, {packages}; print([len(dir(each)) > 0 for each in ({packages},)], 'torch' in sys.modules)"
    done = aigc_process(sys.executable, "-c", program)
    assert done.out == f"{[True] * len(packages.split())} False\n", done.err


def builtin_points():
    found = [point for kind in plugins.GROUPS for point in entry_points(group=plugins.GROUPS[kind])]
    ours = [point for point in found if point.dist is not None and point.dist.name == "aigc-lightning"]
    return [point for point in ours if not point.value.endswith(".configs")]


@pytest.mark.parametrize("point", builtin_points(), ids=lambda point: f"{point.group}.{point.name}")
def test_every_entry_point_names_something_with_a_summary(point):
    target = point.load()
    assert callable(target) and target.__doc__.strip()


@pytest.mark.skipif(not PROJECT, reason="not a checkout")
def test_the_installed_entry_points_are_those_of_the_checkout():
    declared = PROJECT["project"]["entry-points"]
    installed = {(point.group, point.name, point.value) for point in builtin_points()}
    wanted = {(group, name, value) for group, points in declared.items() for name, value in points.items()}
    assert {row for row in wanted if not row[2].endswith(".configs")} == installed, "run: pip install -e ."


@pytest.mark.skipif(not PROJECT, reason="not a checkout")
def test_everything_that_is_imported_is_declared():
    names = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "jsonargparse", "lightning_utilities": "lightning"}
    names |= {"skimage": "scikit-image", "lazy_loader": "lazy-loader", "c2pa": "c2pa-python"}
    declared = {Requirement(text).name for text in requires("aigc-lightning") or ()}
    imported = set()
    for path in ROOT.rglob("*.py"):
        if "templates" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"aigc_lightning"}
    assert {names.get(name, name) for name in foreign} - declared == set()


def test_no_built_in_file_or_function_has_grown_out_of_hand():
    """The house rule is about 300 lines a file and 60 a function."""
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 330, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


@pytest.mark.skipif(not PROJECT, reason="not a checkout")
def test_everything_that_is_printed_goes_one_way():
    """Which escapes control characters and hides secrets; ruff sees to it in this package, and here in its plugins."""
    for path in ROOT.parent.glob("plugins/*/src/**/*.py"):
        if path.name.startswith("exported_"):  # `aigc export` writes it as a program of its own
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Name) and node.id == "print"), f"{path} prints: use core.output.echo"
