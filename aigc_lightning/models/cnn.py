"""Convolutional classifier.

Papers: He et al., Deep Residual Learning, CVPR 2016, https://arxiv.org/abs/1512.03385 (the default network); Szegedy et
al., Rethinking the Inception Architecture, CVPR 2016, section 7, https://arxiv.org/abs/1512.00567 (label smoothing).
Departures from the papers: a small network for small images (`networks/resnet.py`); AdamW with warm-up and cosine decay
instead of SGD with step decay.
Shapes: B batch, C channels, H and W height and width in pixels, K classes, D features. Images lie in [-1, 1].
"""

from typing import Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.engine.optimizers import adamw
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.confusion import class_scores, confusion_counts
from aigc_lightning.networks.resnet import ResNet
from aigc_lightning.networks.timm_backbone import TimmBackbone


class CNN(ImageModel):
    """Classifier of labelled images of any size, which also provides their features.

    Held-out images give `val/accuracy`, `val/loss` (cross entropy) and the macro averages `val/recall`,
    `val/precision` and `val/f1`; test images `test/accuracy` and so on.

    Args:
        spec: format of the images; declared by the data.
        backbone: "resnet" for a small residual network, or the name of any timm network.
        width: channels of the residual network at full size; the features are up to 8 times as many.
        label_smoothing: share of each label that is spread over all classes, from 0 to below 1.
        lr: peak AdamW learning rate.
        weight_decay: of AdamW, applied to weights but not to norms and biases.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.
        norm: normalisation in the residual network; "group" does not mix the images of a batch.

    Raises:
        UserError: the images have no classes, an argument is out of range, or the backbone is unknown to timm or does
            not accept such images.
    """

    monitor = "val/loss"
    needs = ("label",)

    def __init__(
        self,
        spec: ImageSpec,
        backbone: str = "resnet",
        width: int = 16,
        label_smoothing: float = 0.1,
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
        schedule_steps: int | None = None,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__(spec)
        check_numbers(width=width, lr=lr, schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, weight_decay=weight_decay, warmup_steps=warmup_steps)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing is {label_smoothing}.", "Give a number of at least 0 and below 1.")
        if backbone != "resnet" and norm != "batch":
            raise UserError(f"model.norm is {norm}; the backbone {backbone} has its own.", "Leave it out.")
        self.label_smoothing, self.lr, self.weight_decay = label_smoothing, lr, weight_decay
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.backbone: ResNet | TimmBackbone
        self.backbone = ResNet(*spec.shape, width, norm) if backbone == "resnet" else TimmBackbone(backbone, spec)
        self.head = nn.Linear(self.backbone.num_features, spec.num_classes)
        # Twice as fast on CPUs and GPUs, with the same results.
        self.backbone.to(memory_format=torch.channels_last)
        self._counts = torch.zeros(spec.num_classes, spec.num_classes, dtype=torch.int64)
        self._loss = torch.zeros(())

    # ---- inference

    def classify(self, images: Tensor) -> Tensor:
        """Return logits (B, K) for images (B, C, H, W) in [-1, 1]."""
        with self.inference():
            logits: Tensor = self(images.to(self.device, self.head.weight.dtype))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """Return the features (B, D) that enter the last layer, for images (B, C, H, W) in [-1, 1]."""
        with self.inference():
            return self.features(images.to(self.device, self.head.weight.dtype))

    def classify_embeddings(self, embeddings: Tensor) -> Tensor:
        """Return the logits (B, K) of images with these features (B, D)."""
        with self.inference():
            logits: Tensor = self.head(embeddings)
        return logits

    # ---- training

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, D), with gradients, in the network's current mode."""
        features: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return features

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of each backbone layer, (B, ...), with gradients; the features (B, D) come last."""
        return self.backbone.feature_maps(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, K), with gradients, in the network's current mode."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Return the cross entropy with smoothed labels."""
        logits = self(batch["image"])
        loss = cross_entropy(logits, batch["label"], label_smoothing=self.label_smoothing)
        self.record("loss", loss)
        self.record("accuracy", (logits.detach().argmax(dim=1) == batch["label"]).float().mean())
        return loss * self.share

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and its schedule, stepped per batch."""
        return adamw(self, self.lr, self.weight_decay, self.warmup_steps, self.schedule_steps)

    # ---- held-out images

    def on_validation_epoch_start(self) -> None:
        """Start to count anew."""
        self._counts = torch.zeros_like(self._counts, device=self.device)
        self._loss = torch.zeros((), device=self.device)

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Count the predictions for a batch of held-out images."""
        logits, labels = self(batch["image"]).float(), batch["label"]
        self._counts += confusion_counts(logits.argmax(dim=1), labels, self.spec.num_classes)
        self._loss += cross_entropy(logits, labels, reduction="sum")

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all answers of all processes."""
        counts, loss = (self.sum_over_processes(value) for value in (self._counts, self._loss))
        self.log_scores({"loss": (loss / counts.sum()).item(), **class_scores(counts)._asdict()})

    def on_test_epoch_start(self) -> None:
        """Start to count anew."""
        self.on_validation_epoch_start()

    def on_test_epoch_end(self) -> None:
        """Log the scores of all answers of all processes."""
        self.on_validation_epoch_end()
