from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from conditional_models import Painter
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile

from aigc_lightning.callbacks.grids import Grids, seed_rows
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.errors import UserError
from aigc_lightning.testing.noise import NoiseImages


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "grids").glob("*.png"))


def test_grids_come_before_training_at_the_cadence_and_at_the_end(fit, tmp_path: Path):
    grids = Grids(every_n_steps=8, num=5)
    fit(grids)
    assert names(tmp_path) == [f"step_{step:06d}.png" for step in (0, 8, 16, 20)]
    assert grids.latest_path == tmp_path / "grids" / "step_000020.png"
    with Image.open(grids.latest_path) as grid:
        assert grid.size == (3 * 66 - 2, 2 * 66 - 2)
        assert isinstance(grid, PngImageFile)
        assert grid.text == {"model": "TinyGenerator", "step": "20", "seeds": "0 1 2\n3 4\n"}
    assert (tmp_path / "grids" / "seeds.txt").read_text().splitlines()[1:] == ["0 1 2", "3 4"]
    with GifImageFile(tmp_path / "timelapse.gif") as timelapse:
        timelapse.seek(timelapse.n_frames - 1)
        assert timelapse.info["duration"] >= 2000


def test_a_model_that_cannot_sample_is_left_alone(fit, make_model, tmp_path: Path):
    grids = Grids()
    fit(grids, model=make_model(generator=False))
    assert grids.latest_path is None and not list(tmp_path.iterdir())


def test_a_model_of_pairs_that_has_a_sample_is_not_asked_for_one(tmp_path: Path):
    class OfPairs(ImageModel):
        def sample(self, seeds):
            raise AssertionError

    grids = Grids()
    grids.on_train_start(silent_trainer(default_root_dir=tmp_path), OfPairs(ImageSpec(1, 8, 8, task="paired")))
    assert grids.latest_path is None


def test_a_run_that_fails_leaves_a_timelapse_of_its_own_grids(fit, make_model, tmp_path: Path):
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids" / "step_000999.png").write_text("of an earlier run that went further; no picture")
    model = make_model()
    model.fail_at = 8
    with pytest.raises(RuntimeError, match="planned"):
        fit(Grids(every_n_steps=2, num=4), model=model)
    with GifImageFile(tmp_path / "timelapse.gif") as timelapse:
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


class ByClass(ImageModel):
    """Makes images as bright as their label; seed s has the class s mod 3 where none is asked for."""

    num_classes = 3

    def sample(self, seeds, labels=None):
        wanted = [seed % 3 for seed in seeds] if labels is None else labels
        return (torch.tensor(wanted).float() / 2 - 0.5)[:, None, None, None].expand(-1, 1, 8, 8)


def test_models_with_classes_have_a_class_each_row(tmp_path: Path):
    trainer = silent_trainer(default_root_dir=tmp_path)
    grids = Grids(num=14)
    grids.on_train_start(trainer, ByClass(ImageSpec(1, 8, 8, ("a", "b", "c"))))
    assert (tmp_path / "grids" / "seeds.txt").read_text().splitlines()[1:] == ["0 3 6 9", "1 4 7 10", "2 5 8 11"]
    assert grids.latest_path is not None
    with Image.open(grids.latest_path) as grid:
        cells = [[grid.convert("L").getpixel((66 * x + 30, 66 * y + 30)) for x in range(4)] for y in range(3)]
        assert grid.size == (4 * 66 - 2, 3 * 66 - 2)
    assert [set(row) for row in cells] == [{64}, {128}, {191}]


def test_the_rows_of_seeds():
    assert seed_rows(5) == [[0, 1, 2], [3, 4]]
    assert seed_rows(7, 3) == [[0, 3], [1, 4], [2, 5]]
    assert seed_rows(2, 3) == [[0, 1]]  # more classes than samples


def test_models_with_prompts_draw_the_captions_of_held_out_images(tmp_path: Path):
    data = Shapes(size=16, num_train=8, num_val=10, batch_size=4)
    model, grids = Painter(data.spec), Grids(every_n_steps=2, num=5)
    trainer = silent_trainer(default_root_dir=tmp_path, max_steps=2, callbacks=[grids], limit_val_batches=0)
    trainer.fit(model, data)
    source = data.val_source()
    numbers = [0, 2, 4, 6, 8]  # evenly chosen
    captions = [source._scene(1, number).caption for number in numbers]
    expected = "".join(f"{seed}\t{caption}\n" for seed, caption in enumerate(captions))
    assert (tmp_path / "grids/captions.txt").read_text().split("\n", 1)[1] == expected
    assert not (tmp_path / "grids/seeds.txt").exists() and grids.latest_path is not None
    with PngImageFile(grids.latest_path) as grid:
        assert grid.text["captions"] == expected and grid.size == (3 * 66 - 2, 2 * 66 - 2)
        labels = source.labels(numbers)
        assert labels is not None
        last = to_uint8(sampled(model, [4], [int(labels[4])], prompts=captions[4:]))[0]
        cell = grid.crop((66, 66, 130, 130)).resize((16, 16), Image.Resampling.NEAREST)
        assert (torch.from_numpy(np.array(cell)).permute(2, 0, 1) == last).all()


def test_models_with_prompts_draw_seeds_where_there_are_no_captions(tmp_path: Path):
    class Loose(Painter):
        needs: ClassVar[tuple[str, ...]] = ()

        def training_step(self, batch, batch_idx):
            return self.words.weight.square().mean()

    data = NoiseImages(3, 8, 8)
    trainer = silent_trainer(default_root_dir=tmp_path, max_steps=1, callbacks=[Grids(num=4)], limit_val_batches=0)
    trainer.fit(Loose(data.spec), data)
    assert (tmp_path / "grids/seeds.txt").exists() and not (tmp_path / "grids/captions.txt").exists()
