"""Every help ends with examples, whose options the command has."""

import re

import pytest

from aigc_lightning import plugins
from aigc_lightning.commands.completion import candidates

_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
#: Of models, data, the trainer and `aigc fit`: the help names them by their pattern.
_OF_OTHERS = re.compile(r"--(steps$|config$|data\.|model\.|trainer\.)")


def helps():
    for plugin in plugins.plugins("command"):
        if plugin.is_builtin:
            yield (plugin.name,)
            yield from ((plugin.name, word) for word in candidates([plugin.name, ""]) if plugin.name != "completion")
    yield ("trust", "keys", "new")


@pytest.mark.parametrize("words", list(helps()), ids=" ".join)
def test_a_help_ends_with_examples(words, aigc):
    shown = aigc(*words, "--help")
    assert shown.code == 0
    body, _, examples = re.split(r"\n(Examples):?\n", shown.out)
    lines = [line.strip() for line in examples.strip().splitlines()]
    assert lines and all("aigc" in line for line in lines)
    for option in _OPTION.findall(" ".join(lines)):
        assert option in body or _OF_OTHERS.match(option), option


def test_examples_are_no_candidates():
    """Neither the files in them nor the options of other commands."""
    assert set(candidates(["trust", ""])) == {"keys", "detector"}
    assert "runs" not in candidates(["sample", ""]) and "--grid" in candidates(["sample", "--g"])
