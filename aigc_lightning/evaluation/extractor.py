"""Base class of feature extractors: frozen networks outside all models, with a fingerprint.

Shapes: B batch, C channels, H and W height and width in pixels, D features, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from aigc_lightning.metrics.resize import check_protocol, resize, to_channels


class Features(NamedTuple):
    """The output of an extractor."""

    features: Tensor  # (B, D) float32
    logits: Tensor | None  # (B, K) float32; None without classes, or if not requested


class Extractor(ABC):
    """A frozen network that maps images to feature vectors.

    It is not an `nn.Module`, so a model that holds one neither saves its weights in checkpoints nor changes its mode.

    Args:
        network: put into evaluation mode; its weights get no gradients.
        name: short, for tables; such as "inception".
        weights_hash: of the weights, hexadecimal.
        shape: (C, H, W) of the images that the network takes.
        resize: the resize protocol, see `metrics.resize`.
        num_features: D.
        num_classes: K; 0 where it has no logits.
        class_names: the names of the classes, in order; empty where they have none.

    Raises:
        UserError: there is no such resize protocol.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        weights_hash: str,
        shape: tuple[int, int, int],
        resize: str,
        num_features: int,
        num_classes: int = 0,
        class_names: tuple[str, ...] = (),
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.name, self.weights_hash, self.shape, self.resize = name, weights_hash, shape, check_protocol(resize)
        self.num_features, self.num_classes, self.class_names = num_features, num_classes, class_names
        self.device = torch.device("cpu")

    @property
    def fingerprint(self) -> str:
        """Everything that the features depend on, as text; equal for equal extractors on all machines."""
        channels, height, width = self.shape
        return f"{self.name} sha256:{self.weights_hash[:16]} {channels}x{height}x{width} {self.resize}"

    @property
    def is_standard_fid(self) -> bool:
        """Whether Frechet distances of these features are the FID of the literature."""
        return False

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device, and return the extractor."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    def __call__(self, images: Tensor, *, with_logits: bool = True) -> Features:
        """Compute features of images of any size and number of channels, in float32 whatever the training precision.

        Args:
            images: uint8 (B, C, H, W), C in {1, 3, 4}.
            with_logits: whether to compute logits as well, which can take a second pass.

        Returns:
            Features on the extractor's device.
        """
        return self.describe(self.prepare(images), with_logits=with_logits)

    def prepare(self, images: Tensor) -> Tensor:
        """Bring uint8 images (B, C, H, W) to the network's shape: float32 (B, *shape) in [0, 255], on its device."""
        assert images.dtype == torch.uint8 and images.ndim == 4
        channels, height, width = self.shape
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return resize(to_channels(images.to(self.device), channels), (height, width), self.resize)

    def describe(self, pixels: Tensor, *, with_logits: bool = True) -> Features:
        """Compute features of prepared pixels."""
        # Results outlive the caller's inference mode, whose tensors could not be changed later.
        with _exactly(), torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            found = self._describe(pixels, with_logits and self.num_classes > 0)
        return Features(found.features.float(), None if found.logits is None else found.logits.float())

    @abstractmethod
    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        """Compute features of float32 pixels (B, *shape) in [0, 255]."""


@contextmanager
def _exactly() -> Iterator[None]:
    """Disable what trades accuracy for speed: TF32, bfloat16 in float32 products, autotuned algorithms."""
    backends: Any = torch.backends  # some of these have no types
    products = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    wanted: list[tuple[Any, str, Any]] = [(product, "fp32_precision", "ieee") for product in products]
    wanted += [(backends.cudnn, "deterministic", True), (backends.cudnn, "benchmark", False)]
    before = [getattr(owner, name) for owner, name, _ in wanted]
    try:
        for owner, name, value in wanted:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(wanted, before, strict=True):
            setattr(owner, name, value)
