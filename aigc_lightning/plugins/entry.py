"""A plugin's entry point: its metadata, its compatibility, and its import."""

import re
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from aigc_lightning import __version__
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.source import definition, derives, preset_folder, problem
from aigc_lightning.shell import command

Kind = Literal["model", "data", "config", "callback", "command", "editor", "operation"]
GROUPS: dict[Kind, str] = {
    "model": "aigc_lightning.models",
    "data": "aigc_lightning.data",
    "config": "aigc_lightning.configs",
    "callback": "aigc_lightning.callbacks",
    "command": "aigc_lightning.commands",
    "editor": "aigc_lightning.editors",
    "operation": "aigc_lightning.operations",
}
#: The distribution whose names other distributions never override.
BUILTIN = "aigc-lightning"
#: Versions of the plugin API that a class may name as its `aigc_api`; see docs/plugin_api.md.
API_VERSION = 1
OLDEST_API_VERSION = 1

#: The base class for each kind of plugin, by path, since importing it would import torch.
_BASES: dict[Kind, tuple[str, str]] = {
    "model": ("aigc_lightning.core.image_model.ImageModel", "aigc_lightning.ImageModel"),
    "data": ("aigc_lightning.data.base.ImageDataModule", "aigc_lightning.ImageDataModule"),
    "callback": ("lightning.pytorch.callbacks.callback.Callback", "lightning.pytorch.Callback"),
}


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Args:
        kind: kind of plugin.
        name: its short name.
        distribution: the package that provides it, normalised.
        version: version of that package.
        value: `module:attribute`, or a package for presets.
        requires: the package's requirements on aigc-lightning, such as ("aigc-lightning>=0.1",).
    """

    kind: Kind
    name: str
    distribution: str
    version: str
    value: str
    requires: tuple[str, ...] = ()

    @property
    def is_builtin(self) -> bool:
        """Whether it is part of aigc_lightning itself."""
        return self.distribution == BUILTIN

    @property
    def class_path(self) -> str:
        """The dotted path of the class, as written in configs."""
        return self.value.replace(":", ".")

    @property
    def module(self) -> str:
        """The module that the entry point names."""
        return self.value.partition(":")[0]

    @property
    def full_name(self) -> str:
        """`distribution:name`, which is unique among plugins of the kind."""
        return f"{self.distribution}:{self.name}"

    @property
    def api(self) -> int:
        """The plugin API version stated in its source, by default the current one."""
        found = definition(self.value)
        return API_VERSION if found is None or found.api is None else found.api

    def summary(self) -> str:
        """Return the first line of its docstring, read from the source without importing anything, or ""."""
        found = definition(self.value)
        return found.summary if found else ""

    def refusal(self) -> str:
        """Return why the plugin must not be imported, being made for another version, or ""."""
        return _unmet(self.requires) or _wrong_api(self.api)

    def problem(self) -> str:
        """Return what is wrong with the plugin, as far as that is visible without importing it, or ""."""
        if self.is_builtin:
            return ""
        if self.kind == "config":
            return self.refusal() or ("" if preset_folder(self.value) else f"there is no folder {self.value}")
        return self.refusal() or problem(self.value) or self._wrong_base()

    def _wrong_base(self) -> str:
        """Return that the class has the wrong base, if the source tells, or ""."""
        path, public = _BASES.get(self.kind, ("", ""))
        return f"it is not a subclass of {public}" if path and derives(self.value, path) is False else ""

    def load(self) -> Any:
        """Import and return the class or function.

        Raises:
            UserError: the plugin is incompatible or broken; the message gives the cause.
        """
        refusal = self.refusal()
        if refusal:
            raise self._error(refusal, f"Update aigc-lightning, or install a {self.distribution} made for it.")
        module, _, attribute = self.value.partition(":")
        before = _torch_defaults()
        try:
            target = import_module(module)
            for part in attribute.split("."):
                target = getattr(target, part)
        except (Exception, SystemExit) as error:  # whatever a plugin does wrong, everything else works
            raise self._broken(error) from error
        wrong = (
            _changed(before, _torch_defaults())
            or _not_a(self.kind, target)
            or _wrong_api(getattr(target, "aigc_api", API_VERSION))
        )
        if wrong:
            raise self._error(wrong, f"Tell the authors of {self.distribution}; everything else works without it.")
        return target

    def _broken(self, error: BaseException) -> UserError:
        top = self.module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            return self._error(
                f"its files are gone: there is no module {top!r}",
                f"Install {self.distribution} again, or remove it: pip uninstall {self.distribution}",
            )
        return self._error(
            f"{type(error).__name__}: {error}",
            f"Everything else works. `{command('aigc', 'plugins', 'check', self.full_name)}` shows the whole error.",
        )

    def _error(self, cause: str, hint: str) -> UserError:
        cause = " ".join(cause.split())
        return UserError(
            f"The {self.kind} {self.name!r} of {self.distribution} {self.version} cannot be used: {cause[:300]}.", hint
        )


def kind_of(target: object) -> Kind | None:
    """Return the kind of plugin that a class is, by its bases; None for other classes and objects."""
    return next((kind for kind in _BASES if isinstance(target, type) and not _not_a(kind, target)), None)


def normalized(name: str) -> str:
    """Normalise a name for comparison: lower case, `-` for `_`."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _torch_defaults() -> dict[str, object]:
    """Return what every computation depends on, by name; nothing before torch is imported."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_default_device"):  # it is being imported
        return {}
    return {
        "the default dtype": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "whether gradients are computed": torch.is_grad_enabled(),
        "the class torch.nn.Module": torch.nn.Module,
        "the class torch.Tensor": torch.Tensor,
    }


def _changed(before: dict[str, object], after: dict[str, object]) -> str:
    """Return what of torch a plugin changed for everybody by being imported, or ""."""
    found = next((name for name in before if before[name] != after.get(name)), "")
    return f"importing it changes {found} of torch from {before[found]} to {after.get(found)}" if found else ""


def _unmet(requires: tuple[str, ...]) -> str:
    """Return which requirement on aigc-lightning is not met, or ""."""
    if not requires:
        return ""
    from packaging.requirements import InvalidRequirement, Requirement  # light, but most commands do not need it

    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(__version__, prereleases=True):
            return f"it needs {BUILTIN}{requirement.specifier} but this is {__version__}"
    return ""


def _wrong_api(version: object) -> str:
    if isinstance(version, int) and OLDEST_API_VERSION <= version <= API_VERSION:
        return ""
    known = f"{OLDEST_API_VERSION} to {API_VERSION}" if OLDEST_API_VERSION < API_VERSION else f"{API_VERSION}"
    return f"it was written for plugin API {version} but aigc-lightning {__version__} has {known}"


def _not_a(kind: Kind, target: Any) -> str:
    """Return why an object is not a valid plugin of this kind, or ""."""
    if kind not in _BASES:
        return "" if callable(target) else f"it is a {type(target).__name__}, which cannot be called"
    path, public = _BASES[kind]
    bases = [f"{base.__module__}.{base.__qualname__}" for base in target.__mro__] if isinstance(target, type) else []
    return "" if path in bases else f"it is not a subclass of {public}"
