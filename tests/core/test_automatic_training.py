"""Models with Lightning's own training step: one and two processes see the same noise, shares and held-out scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.testing import NoiseImages, exactness


class Model(ImageModel):
    """The gradient of its weight is the mean over the global batch of noise times a number of the sample."""

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.scores: dict[str, float] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        numbers = batch["image"][:, 0, 0, 0]
        first, second = (self.noise(len(numbers), 3) for _ in range(2))
        factor = self.uniform(len(numbers))
        losses: Tensor = (first - 0.5 * second) * (factor * numbers)[:, None] @ self.weight
        return losses.mean() * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_held_out("index", batch["index"].float())
        self.log_held_out("light", batch["image"].mean(dim=(1, 2, 3)))

    def log_scores(self, scores: Any) -> None:
        super().log_scores(scores)
        self.scores = {name: self.trainer.callback_metrics[f"val/{name}"].item() for name in scores}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["scores"] = self.scores

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def build(batch_size: int) -> tuple[Model, NoiseImages]:
    # 19 images in batches of 8: the last batch of an epoch has 3, which two processes share as 2 and 1.
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    return Model(data.spec), data


def test_one_and_two_processes_agree(tmp_path: Path) -> None:
    options = {"precision": "64-true", "limit_val_batches": 1.0, "val_check_interval": 1}
    one, two = (exactness.train(build, 8, 5, tmp_path / str(count), processes=count, **options) for count in (1, 2))
    sizes = [[len(batch) for batch in rank] for rank in two.indices]
    assert sizes[0] != sizes[1]  # else shares are not tried
    for (_, first), (_, second) in zip(one.gradients, two.gradients, strict=True):
        assert exactness.largest_difference(second, first) < 1e-12
    steps = [gradients[0] for _, gradients in one.gradients]
    assert not torch.allclose(steps[0], steps[2])  # each step has noise of its own
    scores = [trace.saved["scores"] for trace in (one, two)]
    assert scores[0]["index"] == 9.0 and scores[1] == pytest.approx(scores[0], rel=1e-12)


def test_a_resumed_run_sees_the_same_noise(tmp_path: Path) -> None:
    straight = exactness.train(build, 8, 5, tmp_path / "straight")
    half = exactness.train(build, 8, 3, tmp_path / "half")
    rest = exactness.train(build, 8, 5, tmp_path / "rest", resume=half.checkpoint)
    assert not exactness.different_tensors(rest.saved, straight.saved)
