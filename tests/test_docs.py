"""The plugin tutorial's blocks run in order; commands of the other tutorials exist, with their options and presets."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIAL = Path(__file__).parent.parent / "docs" / "plugins.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

PAGES = [*sorted((ROOT / "docs" / "tutorials").glob("*.md")), ROOT / "docs" / "gallery.md"]
#: Options of models, which no help of a command lists.
_OF_MODELS = {"--guidance", "--strength", "--steps"}


def written_commands():
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            yield from (line for line in block.splitlines() if line.startswith("aigc "))


@pytest.mark.parametrize("line", list(dict.fromkeys(written_commands())))
def test_a_command_of_a_tutorial_exists(line, aigc):
    command, *words = shlex.split(line, comments=True)[1:]
    part = words[:1] if command in ("data", "doctor", "plugins") else []
    shown = aigc(command, *part, "--help").out
    for option, value in zip(words, [*words[1:], ""], strict=True):
        if option == "--config":
            assert [*ROOT.glob(f"configs/{value}.yaml"), *ROOT.glob(f"plugins/*/src/*/configs/{value}.yaml")], value
        elif option.startswith("--") and "." not in option and option not in _OF_MODELS:
            assert (
                option in shown or option == "--model-file" or (command == "doctor" and option in ("--model", "--data"))
            )


@pytest.mark.slow
def test_the_plugin_tutorial_works(tmp_path):
    """One shell runs all blocks; what they install goes to a folder of its own and needs no network."""
    assert len(BLOCKS) >= 6
    site = tmp_path / "site"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "PIP_TARGET": str(site),
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as: no isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    work = tmp_path / "work"
    work.mkdir()
    script = "\n".join(["set -e", *BLOCKS])
    result = subprocess.run(["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "sparkle" in result.stdout
    assert (work / "samples" / "grid.png").is_file()
