import json

import pytest

from aigc_lightning import plugins


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("models", ["dcgan"]),
        ("data", ["cifar10", "digits", "fashion_mnist", "image_folder", "mnist"]),
        ("configs", ["dcgan_digits"]),
    ],
)
def test_what_there_is_with_its_package_and_what_it_is(command, names, aigc):
    rows = {row["name"]: row for row in json.loads(aigc(command, "--json").out)}
    assert rows.keys() >= set(names)
    shown = aigc(command).out
    for name in names:
        assert rows[name]["package"].startswith("aigc-lightning")
        assert len(rows[name]["summary"]) > 10
        line = next(line for line in shown.splitlines() if line.split()[0] == name)
        assert rows[name]["summary"][:30] in line


def test_the_summary_is_read_without_importing_and_is_the_docstrings_first_line():
    for kind in ("model", "data", "command"):
        for plugin in plugins.plugins(kind):
            if plugin.is_builtin:
                assert plugin.summary() == plugin.load().__doc__.strip().partition("\n")[0]
