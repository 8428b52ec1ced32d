"""Settings of a training step that save memory; they apply to every model."""

from dataclasses import dataclass

from aigc_lightning.errors import UserError


@dataclass(frozen=True)
class MemorySettings:
    """Settings of a training step that save memory.

    Args:
        micro_batches: number of parts into which a batch is split.
        checkpoint_activations: whether the activations inside a network's blocks are computed again in the backward
            pass instead of being kept, which takes time; for models that name their blocks.

    Raises:
        UserError: a value out of range.
    """

    micro_batches: int = 1
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        if self.micro_batches < 1:
            raise UserError(f"engine.micro_batches is {self.micro_batches}.", "Give at least 1.")
