from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.callbacks.predictions import Predictions


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_each_image_is_a_file_named_by_its_index(channels, mode, tmp_path):
    trainer: Any = SimpleNamespace(default_root_dir=tmp_path)
    images = torch.linspace(-1, 1, 2 * channels * 6).view(2, channels, 2, 3)
    Predictions().on_predict_batch_end(trainer, pl.LightningModule(), images, {"index": torch.tensor([12, 3])}, 0)
    folder = tmp_path / "predictions"
    assert sorted(path.name for path in folder.iterdir()) == ["000003.png", "000012.png"]
    with Image.open(folder / "000012.png") as picture:
        assert picture.mode == mode and picture.size == (3, 2)
        shown = np.asarray(picture).reshape(2, 3, channels)
    assert (shown == ((images[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).all()


def test_models_that_predict_no_images_write_nothing(tmp_path):
    trainer: Any = SimpleNamespace(default_root_dir=tmp_path)
    Predictions().on_predict_batch_end(trainer, pl.LightningModule(), None, {"index": torch.tensor([0])}, 0)
    assert list(tmp_path.iterdir()) == []
