from pathlib import Path

import pytest
from PIL import Image

from aigc_lightning.callbacks.grids import Grids
from aigc_lightning.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "grids").glob("*.png"))


def test_grids_come_before_training_at_the_cadence_and_at_the_end(fit, tmp_path: Path):
    grids = Grids(every_n_steps=8, num=5)
    fit(grids)
    assert names(tmp_path) == [f"step_{step:06d}.png" for step in (0, 8, 16, 20)]
    assert grids.latest_path == tmp_path / "grids" / "step_000020.png"
    with Image.open(grids.latest_path) as grid:
        assert grid.size == (3 * 66 - 2, 2 * 66 - 2)
        assert grid.text == {"model": "TinyGenerator", "step": "20", "seeds": "0 1 2\n3 4\n"}
    assert (tmp_path / "grids" / "seeds.txt").read_text().splitlines()[1:] == ["0 1 2", "3 4"]
    with Image.open(tmp_path / "timelapse.gif") as timelapse:
        timelapse.seek(timelapse.n_frames - 1)
        assert timelapse.info["duration"] >= 2000


def test_a_model_that_cannot_sample_is_left_alone(fit, make_model, tmp_path: Path):
    grids = Grids()
    fit(grids, model=make_model(generator=False))
    assert grids.latest_path is None and not list(tmp_path.iterdir())


def test_a_run_that_fails_leaves_a_timelapse_of_its_own_grids(fit, make_model, tmp_path: Path):
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "step_000999.png").write_text("of an earlier run that went further; no picture")
    model = make_model()
    model.fail_at = 8
    with pytest.raises(RuntimeError, match="planned"):
        fit(Grids(every_n_steps=2, num=4), model=model)
    with Image.open(tmp_path / "timelapse.gif") as timelapse:
        assert timelapse.size == (130, 130)


def test_a_timelapse_that_cannot_be_made_ends_no_run(fit, tmp_path: Path, caplog):
    (tmp_path / "timelapse.gif").mkdir()
    assert fit(Grids(num=4)).global_step == 20
    assert any("timelapse was not made" in message for message in caplog.messages)


def test_resuming_draws_no_second_beginning(fit, tmp_path: Path):
    fit(Grids(num=4), max_steps=10).save_checkpoint(tmp_path / "ten.ckpt")
    (tmp_path / "grids" / "step_000000.png").unlink()
    fit(Grids(num=4), max_steps=15, resume=tmp_path / "ten.ckpt")
    assert names(tmp_path) == ["step_000010.png", "step_000015.png"]


def test_numbers_below_one_are_refused():
    with pytest.raises(UserError, match=r"grids\.num is 0"):
        Grids(num=0)
