from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.callbacks.predictions import Predictions
from aigc_lightning.core.spec import ImageSpec


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


class Classifying(pl.LightningModule):
    spec = ImageSpec(1, 8, 8, ("cat", "=dog", "eel"))

    def classify(self, images):
        return images


def run_through(model, outputs, folder):
    trainer: Any = SimpleNamespace(default_root_dir=folder, is_global_zero=True)
    callback = Predictions()
    for number, output in enumerate(outputs):
        indices = {"index": torch.arange(len(output)).flip(0) + 2 * number}
        callback.on_predict_batch_end(trainer, model, output, indices, number)
    callback.on_predict_epoch_end(trainer, model)
    return callback


def test_logits_become_a_table_of_classes_in_the_order_of_the_samples(tmp_path):
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 0.0, 0.0]])
    assert run_through(Classifying(), [logits, logits[:1]], tmp_path).written
    rows = (tmp_path / "predictions/classes.csv").read_text().splitlines()
    assert rows[0] == "index,class,probability" and [row[:6] for row in rows[1:]] == ["0,cat,", "1,'=do", "2,'=do"]
    assert float(rows[1].split(",")[2]) == pytest.approx(logits[1].softmax(0)[0].item(), rel=1e-5)


def test_vectors_become_a_table(tmp_path):
    vectors = torch.tensor([[0.5, -1.25], [3.0, 1e-9]])
    assert run_through(pl.LightningModule(), [vectors], tmp_path).written
    table = (tmp_path / "predictions/vectors.csv").read_text()
    assert table == "index,value_0,value_1\n0,3,9.99999972e-10\n1,0.5,-1.25\n"


def test_anything_else_is_not_claimed_to_be_written(tmp_path):
    assert not run_through(pl.LightningModule(), [torch.zeros(2)], tmp_path).written
    assert list(tmp_path.iterdir()) == []
