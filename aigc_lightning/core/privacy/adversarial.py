"""What of an adversarial step is private: the part of the discriminator's loss that sees real images, and nothing else.

Papers: Xie et al., Differentially Private Generative Adversarial Network, 2018, https://arxiv.org/abs/1802.06739 (noise
on the discriminator's gradient suffices, since the generator learns from it alone).
Departs from the paper: the part of the loss that sees generated images is neither clipped nor noised. It depends on the
real images only through weights that are private already. So that it depends on nothing else, a step has as many
generated images as a batch has real ones on average, with classes drawn evenly.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.core.run.seed import run_seed
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

_LABELS = 0x1ABE1  # key of the classes of generated images
_FORM = {Tensor.__len__, Tensor.size, Tensor.dim}
_FORM |= {getattr(Tensor, name).__get__ for name in ("shape", "device", "dtype", "ndim")}


class RealPart:
    """The part of an adversarial model's losses that sees real images.

    A model that can be trained privately defines `real_loss`, and adds `loss_on_real` to the discriminator's loss.
    """

    #: Numbers by which real images act elsewhere as well, such as the weight of a penalty: privacy needs them to be 0.
    looks_at_real: ClassVar[tuple[str, ...]] = ()
    _private_loss: Callable[[], Tensor] | None = None

    def real_loss(self, real: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the part of the discriminator's loss that sees real images, the mean over them.

        Args:
            real: (B, C, H, W) in [-1, 1]; also a single one.
            labels: (B,), where the data has classes.
        """
        raise TypeError(f"{type(self).__name__} does not define real_loss(real, labels)")

    @property
    def is_private(self) -> bool:
        """Whether a step of private training is running, whose losses must leave real images to `loss_on_real`."""
        return self._private_loss is not None

    def loss_on_real(self, real: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return `real_loss` or, in private training, a loss of the same value whose gradient is clipped and noisy."""
        return self.real_loss(real, labels) if self._private_loss is None else self._private_loss()

    @contextmanager
    def private_part(self, loss: Callable[[], Tensor]) -> Iterator[None]:
        """Let `loss_on_real` return this loss meanwhile.

        Args:
            loss: returns a scalar with gradients.
        """
        self._private_loss = loss
        try:
            yield
        finally:
            self._private_loss = None


class Absent(Tensor):
    """Has the form of real images, but no values: whatever looks at them is refused."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer questions about the form alone.

        Raises:
            UserError: anything else is asked.
        """
        if func not in _FORM:
            raise UserError(
                "The model looks at real images elsewhere than in its real_loss, which privacy.epsilon does not cover.",
                "Train it without privacy.epsilon.",
            )
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def public_batch(spec: ImageSpec, count: int, step: int, device: torch.device) -> dict[str, Tensor]:
    """Return a batch that says nothing about the data: images without values, and classes that are drawn evenly.

    Args:
        spec: format of the images.
        count: number of images.
        step: number of batches finished before this one.
        device: where the batch is.
    """
    images = torch.empty(count, *spec.shape, device=device)
    batch: dict[str, Tensor] = {"image": images.as_subclass(Absent), "index": torch.arange(count, device=device)}
    if spec.class_names:
        draws = keyed.uniform(run_seed(), _LABELS, step, np.arange(count))
        batch["label"] = torch.from_numpy((draws * spec.num_classes).astype(np.int64)).to(device)
    return batch
