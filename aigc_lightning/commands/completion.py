"""`aigc completion`: what a shell offers when the tab key is pressed.

The candidates are read from the same listings and help texts that users read, so nothing is listed twice and torch is
never imported.
"""

import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, get_args

from aigc_lightning import plugins
from aigc_lightning.config.command_line import EXAMPLES
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError, did_you_mean

_HELP = """Print the completion script of a shell.

Usage: aigc completion bash     add to ~/.bashrc:  source <(aigc completion bash)
       aigc completion zsh      add to ~/.zshrc:   source <(aigc completion zsh)
       aigc completion fish     write to:          ~/.config/fish/completions/aigc.fish

Examples:
  source <(aigc completion bash)
  aigc completion fish > ~/.config/fish/completions/aigc.fish"""

_BASH = """_aigc() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(aigc completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" \
-- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -o bashdefault -F _aigc aigc"""

_ZSH = """_aigc() {
  local -a found
  found=(${(f)"$(aigc completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( $#found )); then compadd -a found; else _files; fi
}
compdef _aigc aigc"""

_FISH = """function __aigc_words
  set -l words (commandline -opc) (commandline -ct)
  aigc completion words -- $words[2..-1] 2>/dev/null
end
complete -c aigc -a '(__aigc_words)'"""

_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*[a-z0-9]")


def completion(argv: list[str]) -> int:
    """Print the completion script of a shell: bash, zsh or fish."""
    if not argv or argv[0] in ("-h", "--help"):
        echo(*_HELP.split("\n"))
        return 0
    if argv[0] == "words":
        for candidate in candidates(argv[2:] if argv[1:2] == ["--"] else argv[1:]):
            echo(candidate)
        return 0
    if argv[0] not in _SHELLS:
        raise UserError(f"There is no completion for {argv[0]!r}.", did_you_mean(argv[0], _SHELLS))
    echo(*_SHELLS[argv[0]].split("\n"))
    return 0


def candidates(words: list[str]) -> list[str]:
    """Return what can stand for the last of the words after `aigc`; nothing where a file name belongs.

    Args:
        words: those before the cursor; the last one is incomplete, and may be empty.
    """
    *before, last = words or [""]
    return sorted({word for word in _offered(before, last) if word.startswith(last)})


def _offered(before: list[str], last: str) -> list[str]:
    """Return everything that could follow."""
    if not before:
        return [_written(command) for command in plugins.plugins("command")]
    if before[-1] == "--config":
        return [name for name, _, _ in plugins.presets()]
    for kind in get_args(plugins.Kind):
        if before[-1] == f"--{kind}":
            return [_written(plugin) for plugin in plugins.plugins(kind)]
    if last.startswith("-"):
        return _OPTION.findall(_help(before[:2]) or _help(before[:1]))
    if len(before) == 1:
        return re.findall(rf"aigc {re.escape(before[0])} ([a-z]+)\b", _help(before))
    return []


def _written(plugin: plugins.Plugin) -> str:
    """Return the name by which a plugin is called."""
    return plugin.full_name if plugins.clashing(plugin) else plugin.name


def _help(words: list[str]) -> str:
    """Return the help of a command or of its sub-command; "" if there is none."""
    printed = StringIO()
    try:
        command: Callable[[list[str]], Any] = plugins.find("command", words[0]).load()
        with redirect_stdout(printed), redirect_stderr(StringIO()):
            command([*words[1:], "--help"])
    except (UserError, SystemExit):  # argparse ends the process after its help
        pass
    return printed.getvalue().partition(f"\n{EXAMPLES}:")[0]  # files in examples are no candidates
