"""What a picture is to be like, as networks take it.

Shapes: B batch, C channels, H and W height and width in pixels, L tokens of a text, E size of a text's embeddings, A
numbers that describe an augmentation.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Conditions of the samples of a batch; None is none at all.

    Args:
        labels: (B,) int64 classes; the number of classes itself stands for no class (dropout of the condition).
        text: (B, L, E) embeddings of a text's tokens.
        text_mask: (B, L), true for tokens and false for padding; None where there is no padding.
        pooled_text: (B, E) one embedding for the whole text.
        image: (B, C', H, W) more channels beside the state: a source image, a masked image, a mask.
        augmentation: (B, A) labels of `aigc_diffusion.augment`; None, like zeros, for images as they are.
    """

    labels: Tensor | None = None
    text: Tensor | None = None
    text_mask: Tensor | None = None
    pooled_text: Tensor | None = None
    image: Tensor | None = None
    augmentation: Tensor | None = None

    def rows(self, rows: Tensor) -> "Conditions":
        """Return the conditions of some of the samples, given by their numbers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Conditions(**{name: None if value is None else value[rows] for name, value in values.items()})


NO_CONDITIONS = Conditions()


@dataclass(frozen=True)
class ConditionedNetwork:
    """A network with the conditions of a batch filled in.

    Args:
        network: takes states (B, C, H, W), noise levels (B, K) and conditions.
        conditions: of the samples of the batch.
    """

    network: Callable[[Tensor, Tensor, Conditions], Tensor]
    conditions: Conditions = NO_CONDITIONS

    def __call__(self, state: Tensor, level: Tensor) -> Tensor:
        """Return predictions for states (B, C, H, W) at noise levels (B, K)."""
        return self.network(state, level, self.conditions)

    def rows(self, rows: Tensor) -> "ConditionedNetwork":
        """Return the network for some of the samples, given by their numbers."""
        return ConditionedNetwork(self.network, self.conditions.rows(rows))
