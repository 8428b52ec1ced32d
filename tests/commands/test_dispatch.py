"""Commands with sub-commands."""

from pathlib import Path

import pytest

from aigc_lightning import commands
from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.errors import UserError


def run(*argv, default=None):
    return dispatch(
        "aigc house", list(argv), {"paint": lambda rest: len(rest), "sweep": lambda rest: -1}, "Help.", default
    )


def test_a_sub_command_gets_what_follows_it_and_gives_the_exit_code(capsys):
    assert (run("paint"), run("paint", "--help", "red"), run("sweep")) == (0, 2, -1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["--help", "paint"]])
def test_help(capsys, argv):
    assert run(*argv) == 0
    assert capsys.readouterr().out == "Help.\n"


def test_a_default_takes_all_but_sub_commands_and_help(capsys):
    def default(argv):
        return [10, *argv]

    assert run(default=default) == [10]
    assert run("--json", "paint", default=default) == [10, "--json", "paint"]
    assert run("paint", default=default) == 0
    assert run("--help", default=default) == 0 and capsys.readouterr().out == "Help.\n"


@pytest.mark.parametrize("default", [None, lambda argv: 0])
def test_a_name_that_is_none_of_them_is_refused(default):
    with pytest.raises(UserError, match=r"`aigc house` has no 'pant'\.(\n|.)*paint"):
        run("pant", default=default)
    with pytest.raises(UserError, match=r"`aigc house` has no 'xyz'\.(\n|.)*paint, sweep"):
        run("xyz", default=default)


FILES = [path for path in Path(commands.__file__).parent.glob("*/*.py") if "def main(" in path.read_text("utf-8")]
SUB_COMMANDS = [(path.parent.name, path.stem) for path in FILES if path.stem != "machine"]  # which is the default


@pytest.mark.parametrize(("command", "name"), SUB_COMMANDS)
def test_each_file_is_a_sub_command_that_the_help_names(aigc, command, name):
    assert f"aigc {command} {name}" in aigc(command, "--help").out
    own = aigc(command, name, "--help")
    assert own.code == 0 and f"usage: aigc {command} {name}" in own.out.lower()
