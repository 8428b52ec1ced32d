"""The commands of the README, in order, with as many threads as the machine gives them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return what a first reader types; each run ends early."""
    installed = re.findall(r"(aigc fit --config )configs/(\w+)\.yaml", README)
    listed = re.findall(r"`(aigc [^`]*)`", README.partition("## First steps")[2])
    return [_short(command) for command in ["".join(installed[0]), *listed]]


def _short(command: str) -> str:
    command = re.sub(r"PICTURES|FOLDER", "pictures", " ".join(command.split()))
    command = command.replace("PICTURE", "pictures/cats/0.png")
    if " fit " not in command or "--help" in command:
        return command
    steps = 30 if "--resume" in command else 100 if "cnn_digits" in command else 20  # a judge has to know the digits
    command = re.sub(r" --trainer\.max_steps \d+", "", command)
    return f"{command} --trainer.max_steps {steps} --trainer.limit_val_batches 1"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with pictures, in which the commands leave what later ones use."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(Path(__file__).parent.parent / "examples" / "my_gan.py", folder)
    for name in ("cats", "dogs"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(40):
            Image.effect_noise((80, 70), 50).convert("RGB").save(folder / "pictures" / name / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_a_command_works(command, home):
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment["XDG_CONFIG_HOME"] = str(home / "settings")  # where keys are kept
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["bash", "-c", command], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_all_commands_are_found():
    assert len(commands()) >= 16 and commands()[0].startswith("aigc fit --config dcgan_digits ")
