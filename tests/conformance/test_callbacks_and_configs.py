"""The kit plays callbacks through whole runs, and checks data with the options of a config."""

import pytest
import yaml
from PIL import Image

from aigc_lightning.testing import CallbackConformance

BELL = '''
"""Rings."""
import lightning.pytorch as pl


class Bell(pl.Callback):
    """Rings at the end.

    Args:
        times: how often.
    """

    aigc_api = 1

    def __init__(self, times: int = 1) -> None:
        self.times = times

    def {hook}(self, trainer: pl.Trainer, *arguments: object, **named: object) -> None:
        """Ring."""
        {body}
'''
FILES = '''
"""Pictures of a folder."""
from pathlib import Path

from aigc_lightning.data import ImageFolder


class Files(ImageFolder):
    """Pictures of a folder.

    Args:
        root: the folder.
        batch_size: pictures in a step.
    """

    aigc_api = 1

    def __init__(self, root: str, batch_size: int = 4, num_workers: int = 0) -> None:
        if not Path(root).is_dir():
            raise RuntimeError(f"where is {root}")
        super().__init__(root, 16, batch_size=batch_size, num_workers=num_workers)
'''


class TestSlicedWasserstein(CallbackConformance):
    callback = "sliced_wasserstein"


@pytest.fixture
def bell(site):
    """Return a function that installs a callback with a hook that does something."""

    def install(hook: str, body: str) -> None:
        source = BELL.format(hook=hook, body=body)
        site.install("aigc-bell", {"callbacks": {"bell": "bell_plugin:Bell"}}, {"bell_plugin.py": source}, marked=False)

    return install


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "failing"),
    [
        ("on_save_checkpoint", "completes_a_run"),
        ("on_validation_end", "completes_a_run"),
        ("on_train_end", "completes_a_run"),
        ("on_predict_end", "runs_in_every_stage"),
    ],
)
def test_a_callback_that_fails_in_any_hook_is_found(bell, aigc, hook, failing):
    bell(hook, "raise RuntimeError('no rope')")
    done = aigc("plugins", "check", "bell")
    assert done.code == 1 and "no rope" in done.out
    (line,) = [line for line in done.out.splitlines() if line.split()[:1] == [failing]]
    assert "FAILED" in line
    assert "bell_plugin.py" in done.out and "--debug shows the whole traceback" in done.out
    assert "lightning/pytorch/trainer" not in done.out
    assert "lightning/pytorch/trainer" in aigc("--debug", "plugins", "check", "bell").out


@pytest.mark.slow
def test_a_callback_that_cannot_be_resumed_is_found(bell, aigc):
    bell("on_load_checkpoint", "raise RuntimeError('no rope')")
    done = aigc("plugins", "check", "bell")
    failed = [line.split()[0] for line in done.out.splitlines() if "FAILED" in line]
    assert done.code == 1 and failed == ["resumes", "survives_a_signal"] and "no rope" in done.out


def test_a_callback_that_works_passes_with_its_arguments(bell, aigc):
    bell("on_train_end", "assert self.times == 3")
    done = aigc("plugins", "check", "bell", "--set", "callback.times=3")
    assert done.code == 0 and "runs_in_every_stage" in done.out, done.out
    assert aigc("plugins", "check", "bell").code == 1


def test_data_that_need_files_are_checked_with_a_config(site, aigc, folder):
    site.install("aigc-files", {"data": {"files": "files_plugin:Files"}}, {"files_plugin.py": FILES}, marked=False)
    for number in range(40):
        (folder / "pictures").mkdir(exist_ok=True)
        Image.effect_noise((20, 18), 50).save(folder / "pictures" / f"{number}.png")
    done = aigc("plugins", "check", "files")
    assert done.code == 1 and "add --config PRESET or --set data.root=VALUE" in done.out
    assert "where is" not in done.out
    config = {"data": {"class_path": "files", "init_args": {"root": str(folder / "pictures")}}}
    (folder / "files.yaml").write_text(yaml.safe_dump(config))
    done = aigc("plugins", "check", "files", "--config", "files.yaml")
    assert done.code == 0, done.out
    done = aigc("plugins", "check", "files", "--config", "files.yaml", "--set", "data.root=nowhere")
    assert done.code == 1 and "where is nowhere" in done.out
    (folder / "other.yaml").write_text("data: digits")
    done = aigc("plugins", "check", "files", "--config", "other.yaml")
    assert done.code == 2 and "names another" in done.err and len(done.lines) <= 4
