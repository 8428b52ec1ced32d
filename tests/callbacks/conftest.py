"""A model of a few numbers that trains in milliseconds, for the callbacks to watch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aigc_lightning.core.image_model import ImageModel, seeded_normal
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec

Fit = Callable[..., pl.Trainer]


class TinyModel(ImageModel):
    """Records its step as its loss; not a generator."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.fail_at: int | None = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        step = self.trainer.global_step + 1
        if step == self.fail_at:
            raise RuntimeError("planned")
        self.record("generator_loss", torch.tensor(float(step)))
        return self.weight.square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TinyGenerator(TinyModel):
    """Makes noise; may be asked for labels, as conditional models are."""

    def sample(self, seeds: Sequence[int], labels: Tensor | None = None) -> Tensor:
        return seeded_normal(seeds, *self.spec.shape).clamp(-1, 1)


SPEC = ImageSpec(1, 8, 8)


def batches(count: int, size: int = 4) -> DataLoader[Any]:
    """Return batches of noise; the last one has a single image."""
    sizes = [size] * (count - 1) + [1]
    images = [torch.rand(number, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1 for number in sizes]
    parts = [{"image": image, "index": torch.arange(len(image))} for image in images]
    return DataLoader(parts, batch_size=None)  # type: ignore[arg-type]


@pytest.fixture
def make_model() -> Callable[..., TinyModel]:
    def make(*, generator: bool = True) -> TinyModel:
        return TinyGenerator(SPEC) if generator else TinyModel(SPEC)

    return make


@pytest.fixture
def fit(tmp_path: Path, make_model: Callable[..., TinyModel]) -> Fit:
    """Train on ten batches an epoch with some callbacks; return the trainer."""

    def run(
        *callbacks: pl.Callback,
        max_steps: int = 20,
        model: TinyModel | None = None,
        resume: Path | None = None,
        loader: Any = None,
        **options: Any,
    ) -> pl.Trainer:
        options = {"log_every_n_steps": 5, "limit_val_batches": 0, **options}
        trainer = silent_trainer(
            default_root_dir=tmp_path,
            max_steps=max_steps,
            callbacks=list(callbacks),
            enable_checkpointing=any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            **options,
        )
        loader = batches(10) if loader is None else loader
        trainer.fit(model or make_model(), loader, batches(3), ckpt_path=resume, weights_only=False)
        return trainer

    return run
