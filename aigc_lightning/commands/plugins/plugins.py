"""`aigc plugins`: list, inspect, check and create plugins."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.plugins.check import main as check
from aigc_lightning.commands.plugins.list import main as list_plugins
from aigc_lightning.commands.plugins.new import main as new
from aigc_lightning.commands.plugins.show import main as show

_HELP = """List, inspect, check and create plugins.

Usage: aigc plugins list [KIND] [--json]      all plugins and whether they can be used; imports none of them
       aigc plugins show NAME [--kind KIND]   options, presets, paper and capabilities of one
       aigc plugins check NAME [--full]       run the conformance kit on a plugin or a whole package
       aigc plugins new NAME [--kind KIND]    generate a package to start from (--help lists the kinds)

KIND is model, data, config, callback or command. A name may be written PACKAGE:NAME.
AIGC_PLUGINS=a,b uses only the packages a and b; AIGC_PLUGINS=-a excludes a. It is read before any import.

Examples:
  aigc plugins list model
  aigc plugins show dcgan
  aigc plugins new my-gan --kind model"""
_SUB_COMMANDS = {"list": list_plugins, "show": show, "check": check, "new": new}


def plugins(argv: list[str]) -> int:
    """List, inspect, check and create plugins: list, show, check, new."""
    return dispatch("aigc plugins", argv, _SUB_COMMANDS, _HELP)
