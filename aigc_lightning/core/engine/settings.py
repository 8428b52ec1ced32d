"""Settings of adversarial training that apply to every adversarial model."""

from dataclasses import dataclass
from typing import Literal

from aigc_lightning.core.engine.augmentation import check_policies
from aigc_lightning.core.memory.settings import MemorySettings
from aigc_lightning.errors import UserError


@dataclass(frozen=True)
class Engine(MemorySettings):
    """Settings of a training step: those of memory, which every model has, and those of adversarial training.

    Args:
        micro_batches: number of parts into which a batch is split to save memory.
        checkpoint_activations: whether the activations inside a network's blocks are computed again in the backward
            pass instead of being kept, which saves memory and takes time; for models that name their blocks.
        clip_norm: largest norm of a player's gradient; None for no clipping.
        max_skipped: number of consecutive updates that may be skipped for a non-finite gradient; 0 stops at the first.
        augment: differentiable augmentation of all images that discriminators judge: "none", "diff" (always) or "ada"
            (just often enough to keep the discriminators from memorizing the real images).
        augment_policies: which augmentations to apply, of "color,translation,cutout".
        augment_target: mean sign of the logits of real images that "ada" aims for.
        augment_images: number of images over which the probability of "ada" can rise from 0 to 1.

    Raises:
        UserError: a value out of range.
    """

    clip_norm: float | None = None
    max_skipped: int = 0
    augment: Literal["none", "diff", "ada"] = "none"
    augment_policies: str = "color,translation,cutout"
    augment_target: float = 0.6
    augment_images: int = 500_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise UserError(f"engine.clip_norm is {self.clip_norm}.", "Give a positive number, or leave it out.")
        if self.max_skipped < 0:
            raise UserError(f"engine.max_skipped is {self.max_skipped}.", "Give 0 or more.")
        if self.augment not in ("none", "diff", "ada"):
            raise UserError(f"engine.augment is {self.augment!r}.", "Give none, diff or ada.")
        check_policies(self.augment_policies.split(","))
        if not 0 < self.augment_target < 1:
            raise UserError(f"engine.augment_target is {self.augment_target}.", "Give a number between 0 and 1.")
        if self.augment_images < 1:
            raise UserError(f"engine.augment_images is {self.augment_images}.", "Give at least 1.")
