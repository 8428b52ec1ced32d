"""Registry of models, data, presets, callbacks, commands, editors and operations, without torch."""

from aigc_lightning.plugins.entry import API_VERSION, BUILTIN, GROUPS, Kind, Plugin, kind_of, normalized
from aigc_lightning.plugins.registry import (
    clashing,
    denied,
    find,
    find_by_class_path,
    find_preset,
    forget,
    plugins,
    preset_files,
    presets,
    presets_of,
    register_model_file,
    unknown_in_allow_variable,
    uses,
)

__all__ = [
    "API_VERSION",
    "BUILTIN",
    "GROUPS",
    "Kind",
    "Plugin",
    "clashing",
    "denied",
    "find",
    "find_by_class_path",
    "find_preset",
    "forget",
    "kind_of",
    "normalized",
    "plugins",
    "preset_files",
    "presets",
    "presets_of",
    "register_model_file",
    "unknown_in_allow_variable",
    "uses",
]
