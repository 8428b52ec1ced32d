"""`aigc plugins`: see, judge and start plugins."""

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.commands.plugins.check import main as check
from aigc_lightning.commands.plugins.list import main as list_plugins
from aigc_lightning.commands.plugins.new import main as new
from aigc_lightning.commands.plugins.show import main as show

_HELP = """See, judge and start plugins.

Usage: aigc plugins list [KIND] [--json]      all plugins and whether they can be used; imports none of them
       aigc plugins show NAME [--kind KIND]   options, presets, paper and abilities of one
       aigc plugins check NAME [--full]       run the conformance kit on a plugin or on all of a package
       aigc plugins new NAME [--kind KIND]    write a package to start from: model, edit or data

KIND is model, data, config, callback or command. A name may be written PACKAGE:NAME.
AIGC_PLUGINS=a,b uses the packages a and b alone; AIGC_PLUGINS=-a leaves out a. It is read before any import."""
_SUB_COMMANDS = {"list": list_plugins, "show": show, "check": check, "new": new}


def plugins(argv: list[str]) -> int:
    """See, judge and start plugins: list, show, check, new."""
    return dispatch("aigc plugins", argv, _SUB_COMMANDS, _HELP)
