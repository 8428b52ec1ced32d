"""Checks of a class's source: what commands, configs and pages read from it."""

import inspect
import subprocess
import sys
import typing
from typing import Any

from aigc_lightning.testing.cases import Case
from aigc_lightning.testing.checks import CheckFailedError, require

_LIMIT_S = 60
_RESOLVE = """
import sys
from aigc_lightning import plugins
plugin = plugins.find_by_class_path({kind!r}, {name!r}) or plugins.find({kind!r}, {name!r})
plugin.summary(), plugin.problem()
package = plugin.module.partition('.')[0]
print(' '.join(sorted(name for name in ('torch', package) if name in sys.modules and name != 'aigc_lightning')))
"""


def resolves_without_torch(case: Case) -> None:
    """Its name is found and described without importing torch or the plugin."""
    code = _RESOLVE.format(kind=case.kind, name=case.name)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailedError(f"Looking the name up did not finish within {_LIMIT_S} s.") from error
    require(done.returncode == 0, done.stderr.strip().rpartition("\n")[2])
    require(not done.stdout.strip(), f"Looking the name up imports {done.stdout.strip()}.")
    require(bool(case.plugin.summary()), "Listings find no summary: the class needs a docstring.")


def states_its_api(case: Case) -> None:
    """Its class states the version of the plugin API it was written for: `aigc_api = 1`."""
    own = (
        base for base in case.target.__mro__ if base.__module__.partition(".")[0] not in ("aigc_lightning", "lightning")
    )
    stated = case.plugin.is_builtin or any("aigc_api" in vars(base) for base in own)
    require(
        stated, f"{case.target.__name__} does not define `aigc_api`, so later versions cannot tell if it fits them."
    )


def has_typed_arguments(case: Case) -> None:
    """Every argument of its `__init__` has a type, none is `*args` or `**kwargs`, and defaults are plain values."""
    hints = typing.get_type_hints(case.target.__init__)
    for name, parameter in _arguments(case.target).items():
        starred = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        require(not starred, f"__init__ takes {parameter}: configs and help cannot tell what it accepts.")
        require(name in hints, f"The argument {name} of __init__ has no type.")


def has_docstrings(case: Case) -> None:
    """Its module and class have docstrings, and `Args:` describes every argument."""
    module = sys.modules[case.target.__module__]
    require(bool((module.__doc__ or "").strip()), f"The module {module.__name__} has no docstring.")
    text = inspect.cleandoc(vars(case.target).get("__doc__") or "")
    require(bool(text), f"{case.target.__name__} has no docstring.")
    base = next(base for base in case.target.__mro__ if "__init__" in vars(base))  # may define the arguments
    text += f"\n{inspect.cleandoc(vars(base).get('__doc__') or '')}"
    given_by_data = {"spec"} if case.kind == "model" else set()
    missing = [name for name in _arguments(case.target) if name not in given_by_data and f"\n    {name}" not in text]
    require(not missing, f"The docstring's Args: section does not describe {', '.join(missing)}.")


def _arguments(target: Any) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(target.__init__).parameters.items())[1:])
