from pathlib import Path

import numpy as np
import pytest
import torch
from conditional_models import Filler
from PIL.PngImagePlugin import PngImageFile

from aigc_lightning.callbacks.grids import Grids, comparison, side_by_side
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.testing.noise import NoiseImages


class Inverter(ImageModel):
    """Turns black to white."""

    def __init__(self, spec):
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def edit(self, images):
        return -images

    def training_step(self, batch, batch_idx):
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class InverterAndSampler(Inverter):
    def sample(self, seeds):
        return torch.zeros(len(seeds), *self.spec.shape)


class ThreeColumns(Inverter):
    def comparison(self, batch):
        return {"one": batch["image"], "two": -batch["image"], "three": batch["image"] * 0}


def picture(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand((2, *shape), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "grids").glob("*.png"))


def fit_on(data: NoiseImages, model: type[ImageModel], grids: Grids, folder: Path) -> None:
    trainer = silent_trainer(default_root_dir=folder, max_steps=4, callbacks=[grids], limit_val_batches=0)
    trainer.fit(model(data.spec), data)


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("restoration", "degraded | edited | image"),
        ("paired", "source | edited | target"),
        ("unpaired", "image_a | edited"),
        ("generation", "image | edited"),
    ],
)
def test_a_model_that_edits_is_shown_at_work(task, columns, tmp_path: Path):
    data = NoiseImages(1, 64, 64, task=task, num_images=16, batch_size=2)
    grids = Grids(every_n_steps=2, num=36)
    fit_on(data, Inverter, grids, tmp_path)
    assert names(tmp_path) == [f"step_{step:06d}.png" for step in (0, 2, 4)]
    width = columns.count("|") + 1
    assert grids.latest_path is not None
    with PngImageFile(grids.latest_path) as grid:
        assert grid.text == {"model": "Inverter", "step": "4", "columns": columns}
        # Twelve samples: two groups in each of six rows, with more room between them.
        assert grid.size == (2 * width * 66 - 2 + 8, 6 * 66 - 2)
        assert np.asarray(grid)[0, 66] == 255 - np.asarray(grid)[0, 0]
        first, last = ((0, 0), (width * 66 + 8, 5 * 66))
        held_out = data.val_dataloader().dataset
        chosen = [held_out[number][columns.split(" | ")[0]] for number in (0, 14)]  # evenly chosen of sixteen
        source = [to_uint8(images)[0, 0, 0, 0].item() for images in chosen]
        assert [grid.getpixel(first), grid.getpixel(last)] == source
    assert (tmp_path / "timelapse.gif").exists()


def test_a_model_that_samples_too_has_both(tmp_path: Path):
    grids = Grids(every_n_steps=4, num=4)
    fit_on(NoiseImages(1, 64, 64), InverterAndSampler, grids, tmp_path)
    assert names(tmp_path) == ["edits_000000.png", "edits_000004.png", "step_000000.png", "step_000004.png"]
    assert grids.latest_path is not None and grids.latest_path.name == "step_000004.png"


def test_a_model_may_choose_its_columns(tmp_path: Path):
    data = NoiseImages(1, 64, 64)
    assert list(comparison(ThreeColumns(data.spec), {"image": picture((1, 8, 8))})) == ["one", "two", "three"]
    grids = Grids(every_n_steps=4, num=3)
    fit_on(data, ThreeColumns, grids, tmp_path)
    assert grids.latest_path is not None
    with PngImageFile(grids.latest_path) as grid:
        assert grid.text["columns"] == "one | two | three" and grid.size == (3 * 66 - 2, 64)


def test_columns_of_other_sizes_and_channels_are_fitted():
    small, large = picture((1, 4, 4)), picture((3, 8, 8), seed=1)
    cells = side_by_side([small, large])
    assert cells.shape == (4, 3, 8, 8)
    expected = torch.nn.functional.interpolate(small, scale_factor=2).add(1).mul(127.5).round()
    assert torch.equal(cells[2].float(), expected[1].expand(3, -1, -1))


def test_masks_and_references_have_columns_where_a_model_takes_them():
    data = NoiseImages(3, 8, 8, masks=True, batch_size=4)
    batch = next(iter(data.val_dataloader()))
    columns = comparison(Filler(data.spec), {**batch, "reference": batch["image"]})
    assert list(columns) == ["image", "mask", "reference", "edited"]
    assert torch.equal(columns["mask"], batch["mask"] * 2 - 1) and columns["mask"].unique().tolist() == [-1, 1]
    assert list(comparison(Inverter(data.spec), batch)) == ["image", "edited"]


def test_edits_by_prompts_list_the_captions(tmp_path: Path):
    data = NoiseImages(3, 8, 8, masks=True, captions=True)
    grids = Grids(every_n_steps=4, num=6)
    fit_on(data, Filler, grids, tmp_path)
    assert grids.latest_path is not None
    with PngImageFile(grids.latest_path) as grid:
        assert grid.text["columns"] == "image | mask | edited"
        assert grid.text["captions"] == "one circle\none circle\n"  # samples 0 and 8 of 16


def test_grey_columns_beside_transparent_ones_are_opaque():
    cells = side_by_side([picture((1, 4, 4)), picture((4, 4, 4), seed=1)])
    assert cells.shape == (4, 4, 4, 4) and (cells[::2, 3] == 255).all() and torch.equal(cells[0, 0], cells[0, 2])
