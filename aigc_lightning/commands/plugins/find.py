"""The plugins that a user means by a name."""

from typing import get_args

from aigc_lightning import plugins
from aigc_lightning.errors import UserError, did_you_mean


def one_plugin(name: str, kind: plugins.Kind | None = None) -> plugins.Plugin:
    """Return the plugin that a user means, of any kind.

    Raises:
        UserError: nothing has this name, or several plugins have it.
    """
    if kind is not None:
        return plugins.find_by_class_path(kind, name) or plugins.find(kind, name)
    found, reasons = [], []
    for each in get_args(plugins.Kind):
        try:
            found.append(plugins.find_by_class_path(each, name) or plugins.find(each, name))
        except UserError as error:
            reasons.append(error)
    if len(found) > 1:  # a package's presets are often called like its model, which is what a user means
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
    """Return all plugins of the distribution of this name; none where there is no such distribution."""
    every = (plugin for kind in get_args(plugins.Kind) for plugin in plugins.plugins(kind))
    return [plugin for plugin in every if plugin.distribution == plugins.normalized(name)]
