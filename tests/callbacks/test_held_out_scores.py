from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from aigc_lightning.callbacks.held_out_scores import SlicedWasserstein
from aigc_lightning.callbacks.loggers import make_loggers
from aigc_lightning.callbacks.metrics_file import read_metrics
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.metrics.sliced_wasserstein import sliced_wasserstein

KEY = "val/sliced_wasserstein"


def held_out() -> torch.Tensor:
    """Return the images of three validation batches of 4, 4 and 1, as the fixture makes them."""
    images = [torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1 for n in (4, 4, 1)]
    return torch.cat(images)


@pytest.mark.parametrize(("num", "used"), [(1000, 9), (6, 6)])
def test_it_is_the_distance_of_the_held_out_images_to_as_many_samples(fit, tmp_path: Path, num: int, used: int):
    trainer = fit(SlicedWasserstein(num=num), max_steps=10, limit_val_batches=1.0, logger=make_loggers([], tmp_path))
    fake = seeded_normal(range(used), 1, 8, 8).clamp(-1, 1)
    expected = sliced_wasserstein(held_out()[:used].flatten(1), fake.flatten(1))
    assert trainer.callback_metrics[KEY].item() == pytest.approx(expected, rel=1e-5)
    steps, values = read_metrics(tmp_path / "metrics.csv")[KEY]
    assert steps == [10] and values == pytest.approx([expected], rel=1e-5)


def test_a_checkpoint_can_monitor_it_and_the_check_before_training_logs_nothing(fit, tmp_path: Path):
    seen: list[Any] = []

    class Watcher(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append((trainer.sanity_checking, KEY in trainer.callback_metrics))

    fit(SlicedWasserstein(), Watcher(), max_steps=10, limit_val_batches=1.0, num_sanity_val_steps=1)
    assert seen == [(True, False), (False, True)]


def test_a_model_that_cannot_sample_has_no_score(fit, make_model):
    trainer = fit(SlicedWasserstein(), model=make_model(generator=False), max_steps=10, limit_val_batches=1.0)
    assert KEY not in trainer.callback_metrics
