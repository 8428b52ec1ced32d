import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aigc_lightning import plugins
from aigc_lightning.commands.completion import candidates


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["eva"], ["evaluate"]),
        (["fit", "--config", "dcgan_fa"], ["dcgan_fashion_mnist"]),
        (["fit", "--model", "dc"], ["dcgan"]),
        (["validate", "--data", "paired_"], ["paired_images"]),
        (["data", "ch"], ["check"]),
        (["data", "preview", "--ou"], ["--out"]),
        (["sample", "--se"], ["--seeds"]),
        (["evaluate", "run", "--ext"], ["--extractor"]),
        (["sample", ""], []),  # a file belongs here
        (["nothing", "--o"], []),
    ],
)
def test_what_is_offered(words, offered):
    assert candidates(words) == offered


def test_all_commands_and_presets_are_offered():
    assert candidates([""]) == sorted(plugin.name for plugin in plugins.plugins("command"))
    assert candidates([]) == candidates([""])
    assert candidates(["fit", "--config", ""]) == sorted(name for name, _, _ in plugins.presets())


def test_the_script_completes_in_bash(aigc, folder):
    done = aigc("completion", "bash")
    assert done.code == 0
    script = folder / "script.bash"
    typed = "COMP_WORDS=(aigc fit --config dcgan_fa) COMP_CWORD=3"
    script.write_text(f'{done.out}\n{typed}; _aigc; echo "${{COMPREPLY[@]}}"\n')
    (folder / "aigc").write_text(f'#!/bin/sh\nexec {sys.executable} -m aigc_lightning "$@"\n')
    (folder / "aigc").chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    ran = subprocess.run(["bash", str(script)], capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert ran.stdout == "dcgan_fashion_mnist\n", ran.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_scripts_are_written_without_errors(shell, aigc, folder):
    done = aigc("completion", shell)
    assert done.code == 0 and "aigc completion words" in done.out
    if shutil.which(shell):
        Path("script").write_text(done.out)
        subprocess.run([shell, "-n", "script"], check=True)


def test_mistakes(aigc):
    done = aigc("completion", "bsh")
    assert done.code == 2 and "bash" in done.err and len(done.lines) <= 4
    assert "bashrc" in aigc("completion", "--help").out
