"""The Python lines of docs/python.md, which stand beside the commands of the README."""

import re
from pathlib import Path

import pytest
from PIL import Image

import aigc_lightning
from aigc_lightning import UserError, plugins
from aigc_lightning.plugins import model_file

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "python.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="not a checkout")
ROWS = re.findall(r"^\| `(aigc [^`]*)` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M) if PAGE.is_file() else []
#: Options with which a line trains for a moment.
TINY = {"trainer": {"max_steps": 1}, "data": {"size": 8, "batch_size": 4}}
#: What the run of the tests cannot do, by a part of the line, and what is said: the line reaches the model.
REFUSED = {
    "class_name=": "without classes",
    "prompts=": "DCGAN knows '--steps'",
    "edit(": "does not edit",
    "fake=": "inception",
}


def test_every_command_of_the_readme_has_a_line():
    read = (ROOT / "README.md").read_text(encoding="utf-8").partition("## First steps")[2]
    commands = {found for found in re.findall(r"`aigc (\w+)", read) if found != "completion"}
    assert commands <= {command.split()[1] for command, _ in ROWS} and len(commands) >= 10


@pytest.fixture
def home(folder, trained, judge, monkeypatch):
    """Return the names that lines use: runs, pictures, and a `fit` that ends early."""
    (folder / "RUN").symlink_to(trained)
    (folder / "JUDGE").symlink_to(judge)
    for name in ("FOLDER", "PICTURES"):
        (folder / name).mkdir()
        for number in range(12):
            Image.effect_noise((16, 16), 60).save(folder / name / f"{number}.png")
    Image.effect_noise((16, 16), 60).save(folder / "PICTURE", format="PNG")
    for name in ("photo.jpg", "hole.png"):
        Image.effect_noise((16, 16), 60).save(folder / name)
    (folder / "my_gan.py").write_bytes((ROOT / "examples" / "my_gan.py").read_bytes())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setattr(model_file, "_finder", model_file._Finder())
    plugins.forget()
    yield folder
    plugins.forget()


def short_fit(config=None, **options):
    """Train as `fit` does, for one batch."""
    if "resume" in options:
        return aigc_lightning.fit(config, **options, trainer={"max_steps": 100})
    data = options.get("data", {})
    given = {"data": {"name": data, **TINY["data"]} if isinstance(data, str) else {**TINY["data"], **data}}
    return aigc_lightning.fit(config, **{**options, **given, "trainer": TINY["trainer"]})


@pytest.mark.slow
@pytest.mark.parametrize(("command", "lines"), ROWS)
def test_a_line_does_what_its_command_does(command, lines, home):
    names = {**{name: getattr(aigc_lightning, name) for name in dir(aigc_lightning)}, "fit": short_fit}
    if command.startswith("aigc search"):
        aigc_lightning.run_command("index", "JUDGE", "FOLDER", out="photos.index")
    for line in re.findall(r"`([^`]*)`", lines):
        said = next((message for part, message in REFUSED.items() if part in line), None)
        if said is None:
            exec(line, names)
        else:
            with pytest.raises(UserError, match=said):
                exec(line, names)
