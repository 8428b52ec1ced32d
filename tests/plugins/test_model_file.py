"""Models of a single file: named by the user alone, recorded with their hash, and asked for again by every command."""

import shutil
import sys
from pathlib import Path

import pytest

from aigc_lightning import UserError, load, plugins
from aigc_lightning.plugins import model_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_gan.py"
MODEL = "my_gan.py:MyGAN"


@pytest.fixture
def file(folder, monkeypatch):
    """Return a copy of the example in the current folder; no file is registered."""
    monkeypatch.setattr(model_file, "_finder", model_file._Finder())
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    yield shutil.copy(EXAMPLE, folder / "my_gan.py")
    sys.modules.pop("model_file_my_gan", None)
    plugins.forget()


def forget():
    model_file._finder.models.clear()
    plugins.forget()


def test_a_file_is_trained_and_used_again(aigc, file):
    small = ("--data", "digits", "--data.size", 8, "--model.width", 8, "--trainer.max_steps", 1, "--run", "run")
    fitted = aigc("fit", "--model", MODEL, *small)
    assert fitted.code == 0, fitted.err
    assert f"--model-file {Path(file).resolve()}:MyGAN" in fitted.out  # in the next command that is suggested
    record = load("run").record
    assert record["class_path"] == "model_file_my_gan.MyGAN"
    assert record["versions"]["my_gan.py"].startswith("sha256:")

    forget()  # as in another process
    refused = aigc("sample", "run")
    assert refused.code == 2 and "add: --model-file my_gan.py:MyGAN" in refused.err and len(refused.lines) == 2
    resume = ("fit", "--resume", "run", "--trainer.max_steps", 2)
    refused = aigc(*resume)
    assert refused.code == 2 and "add: --model-file my_gan.py:MyGAN" in refused.err
    assert aigc("sample", "run", "--seeds", "0-3", "--model-file", MODEL).code == 0
    assert aigc(*resume).code == 0

    Path(file).write_text(f"{Path(file).read_text()}\n# changed\n")
    changed = aigc("sample", "run", "--seeds", "0", "--out", "again", f"--model-file={MODEL}")
    assert changed.code == 0 and "my_gan.py has changed since: it was sha256:" in changed.err


@pytest.mark.parametrize("section", ["model: my_gan.py:MyGAN\n", "model:\n  class_path: my_gan.py:MyGAN\n"])
def test_a_config_names_no_file(section, aigc, file):
    Path("own.yaml").write_text(f"{section}data:\n  class_path: digits\n")
    Path(file).write_text("raise SystemExit('it ran')\nclass MyGAN: ...\n")
    refused = aigc("fit", "--config", "own.yaml")
    assert refused.code == 2 and "which is code" in refused.err and f"--model {MODEL}" in refused.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere.py:MyGAN", "There is no file nowhere.py"),
        ("my_gan.py", "given without a class"),
        ("my_gan.py:MyGan", "Did you mean MyGAN?"),
        ("broken.py:A", "broken.py is not valid Python, line 1"),
    ],
)
def test_what_is_no_model_is_refused(given, said, file):
    Path("broken.py").write_text("class A(:\n")
    with pytest.raises(UserError) as refused:
        plugins.register_model_file(given)
    assert said in f"{refused.value.what} {refused.value.hint}"


def test_a_class_of_another_kind_is_refused_before_use(aigc, file):
    Path("other.py").write_text("class Other: ...\n")
    refused = aigc("fit", "--model", "other.py:Other", "--data", "digits")
    assert refused.code == 2 and "is not a subclass of aigc_lightning.ImageModel" in refused.err


def test_two_files_of_one_name_are_refused(file, folder):
    (folder / "b").mkdir()
    shutil.copy(file, "b/my_gan.py")
    plugins.register_model_file(MODEL)
    with pytest.raises(UserError, match="have the same name"):
        plugins.register_model_file("b/my_gan.py:MyGAN")


def test_a_file_cannot_take_the_place_of_a_module(folder, file):
    shutil.copy(file, "random.py")
    assert plugins.register_model_file("random.py:MyGAN").load().__module__ == "model_file_random"
