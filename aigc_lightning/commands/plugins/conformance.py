"""The conformance kit on the command line: one line per check, with full errors."""

import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aigc_lightning import plugins
from aigc_lightning.config.request import check_config
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.run.quiet import quiet_console
from aigc_lightning.errors import UserError, debugging
from aigc_lightning.testing.callback_checks import CallbackCase
from aigc_lightning.testing.cases import Case, DataCase, ModelCase, config_file
from aigc_lightning.testing.catalogue import CALLBACK_CHECKS, DATA_CHECKS, MODEL_CHECKS
from aigc_lightning.testing.checks import Check, CheckFailedError, NotApplicableError, require
from aigc_lightning.yaml_file import read_yaml

_FAILED = 1
_NAME_WIDTH = max(len(check.name) for check in (*MODEL_CHECKS, *DATA_CHECKS, *CALLBACK_CHECKS)) + 2


def run_checks(found: Sequence[plugins.Plugin], *, full: bool, config: str | None, settings: Sequence[str]) -> int:
    """Check plugins, print the results, and return the exit code: 0 if all passed, else 1.

    Args:
        found: the plugins.
        full: also run the slow checks.
        config: the preset to check with; None for the package's first one for a model, and none for data.
        settings: options to set, such as "model.width=8".

    Raises:
        UserError: a setting is not KEY=VALUE, or the preset uses none of the plugins.
    """
    wrong = [text for text in settings if "=" not in text]
    if wrong:
        raise UserError(f"--set {wrong[0]!r} has no value.", "Write --set KEY=VALUE, such as --set model.width=8.")
    configs = _configs(found, config)
    failed = 0
    for plugin in found:
        echo(f"{plugin.kind} {plugin.full_name} {plugin.version} ({plugin.class_path})", flush=True)
        with tempfile.TemporaryDirectory(prefix="aigc_check_") as folder, quiet_console():
            failed += _check_one(plugin, Path(folder), full=full, config=configs[plugin], settings=settings)
        echo("")
    echo(f"{failed} failed." if failed else "All passed." if full else "All passed. --full adds the slow checks.")
    return _FAILED if failed else 0


def _configs(found: Sequence[plugins.Plugin], config: str | None) -> dict[plugins.Plugin, str]:
    """Return the preset for each plugin, "" where the given one uses others: callbacks run with any.

    Raises:
        UserError: no plugin can be checked with the preset.
    """
    chosen = {plugin: config if config and plugin.kind == "callback" else "" for plugin in found}
    for plugin in found if config else ():
        if plugin.kind not in ("model", "data"):
            continue
        try:
            config_file(config or "", plugin)
            chosen[plugin] = config or ""
        except UserError:
            if len(found) == 1:
                raise
    if config and not any(chosen.values()):
        raise UserError(f"The config {config} uses none of these plugins.", "Choose another; see: aigc configs")
    return chosen


def _check_one(plugin: plugins.Plugin, folder: Path, *, full: bool, config: str, settings: Sequence[str]) -> int:
    """Run all checks of a plugin and return how many failed."""
    if not _line(Check("loads", partial(_loads, plugin)), None):
        return 1
    case: Case | None = None
    checks: Sequence[Check] = ()
    if plugin.kind == "config":
        checks = [Check(path.stem, partial(_preset_is_usable, path)) for path in plugins.preset_files(plugin)]
    elif plugin.kind == "model":
        case, checks = ModelCase("model", plugin.full_name, folder, settings, config), MODEL_CHECKS
    elif plugin.kind == "data":
        case, checks = DataCase("data", plugin.full_name, folder, settings, config), DATA_CHECKS
    elif plugin.kind == "callback":
        case, checks = CallbackCase("callback", plugin.full_name, folder, settings, config), CALLBACK_CHECKS
    return sum(not _line(check, case) for check in checks if full or not check.slow)


def _loads(plugin: plugins.Plugin, case: object) -> None:
    """It can be imported and is of the kind that its entry-point group requires."""
    if plugin.problem():
        whole = _import_error(plugin)
        raise CheckFailedError(f"{plugin.problem()}\n{whole}".strip())
    if plugin.kind != "config":
        whole = _import_error(plugin)
        require(not whole, whole)


def _import_error(plugin: plugins.Plugin) -> str:
    """Return the full error of importing a plugin, or ""; a refused plugin is not imported."""
    if plugin.kind == "config":
        return ""
    try:
        plugin.load()
    except UserError as error:
        cause = error.__cause__
        return f"{error}\n{''.join(traceback.format_exception(cause))}" if cause else str(error)
    return ""


def _line(check: Check, case: object) -> bool:
    """Run a check, print its line, and return whether it passed or was left out."""
    started = time.monotonic()
    echo(f"  {check.name:<{_NAME_WIDTH}}", end="", flush=True)
    status, detail = "ok", ""
    try:
        check.run(case)
    except NotApplicableError as reason:
        status, detail = "left out", str(reason)
    except CheckFailedError as error:
        status, detail = "FAILED", traceback.format_exc() if debugging.get() else str(error)
    except Exception as error:  # an error of the plugin, whatever it is
        status, detail = "FAILED", traceback.format_exc() if debugging.get() else _in_short(error, case)
    echo(f"{status:<9} {time.monotonic() - started:5.1f} s", end="")
    first, *more = detail.strip().splitlines() or [""]
    echo(f"  {first}".rstrip())
    for line in more:
        echo(f"      {line}", flush=True)
    return status != "FAILED"


def _in_short(error: Exception, case: object) -> str:
    """Return an error with the last place in the plugin's own code; the libraries around it are left out."""
    module = case.plugin.module if isinstance(case, Case) else ""
    file = getattr(sys.modules.get(module.partition(".")[0]), "__file__", None) or ""
    package = Path(file).parent if Path(file).name == "__init__.py" else Path(file)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and Path(frame.filename).is_relative_to(package)]
    place = "".join(traceback.format_list([own[-1] if own else frames[-1]]))
    text = "".join(traceback.format_exception_only(error))
    return f"{text}{place}--debug shows the whole traceback."


def _preset_is_usable(path: Path, case: object) -> None:
    """A preset has the right sections, and names models and data that exist."""
    try:
        check_config("fit", path)
        config = read_yaml(path)
        kinds: tuple[plugins.Kind, ...] = ("model", "data")
        for kind in kinds:
            section = config.get(kind)
            name = str(section.get("class_path", "") if isinstance(section, dict) else section or "")
            if name and "." not in name.partition(":")[0]:
                plugins.find(kind, name)
    except UserError as error:
        raise CheckFailedError(str(error)) from error
