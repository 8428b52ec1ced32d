"""Finding plugins by the names that users give."""

from typing import get_args

from aigc_lightning import plugins
from aigc_lightning.errors import UserError, did_you_mean


def one_plugin(name: str, kind: plugins.Kind | None = None) -> plugins.Plugin:
    """Return the plugin with a name, of any kind unless one is given.

    Raises:
        UserError: no plugin has this name, or several have it.
    """
    if kind is not None:
        return plugins.find_by_class_path(kind, name) or plugins.find(kind, name)
    found, reasons = [], []
    for each in get_args(plugins.Kind):
        try:
            found.append(plugins.find_by_class_path(each, name) or plugins.find(each, name))
        except UserError as error:
            reasons.append(error)
    if len(found) > 1:  # a package's presets often have the name of its model, which is the one to prefer
        found = [plugin for plugin in found if plugin.kind != "config"]
    if len(found) == 1:
        return found[0]
    if found:
        kinds = " and ".join(f"a {plugin.kind}" for plugin in found)
        raise UserError(f"{name!r} is {kinds}.", f"Add --kind {found[0].kind} or --kind {found[-1].kind}.")
    telling = [error for error in reasons if not error.what.startswith("There is no ")]
    if telling:
        raise telling[0]
    every = [plugin.name for each in get_args(plugins.Kind) for plugin in plugins.plugins(each)]
    raise UserError(f"There is no plugin called {name!r}.", did_you_mean(name, every) or "See: aigc plugins list")


def plugins_of_package(name: str) -> list[plugins.Plugin]:
    """Return all plugins of the distribution with this name, if there is one."""
    every = (plugin for kind in get_args(plugins.Kind) for plugin in plugins.plugins(kind))
    return [plugin for plugin in every if plugin.distribution == plugins.normalized(name)]
