"""Extractors with published weights: Inception, DINOv2, CLIP and EfficientNet-Lite0.

Sources: Inception v3 as in FID (Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017), weights and
architecture of torch-fidelity; DINOv2 ViT-L/14 (Oquab et al., TMLR 2024), for Frechet distances as in Stein et al.,
Exposing flaws of generative model evaluation metrics, NeurIPS 2023; CLIP ViT-B/32 (Radford et al., ICML 2021);
EfficientNet-Lite0 (Tan, Le, ICML 2019).
Shapes: B batch, H and W height and width in pixels, D features, K classes.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.assets import ASSETS, find_asset
from aigc_lightning.evaluation.extractor import Extractor, Features
from aigc_lightning.networks.efficientnet_lite import EfficientNetLite0


class Inception(Extractor):
    """The Inception v3 of FID: pooled features, and logits without bias as the Inception Score takes them.

    Args:
        resize: the resize protocol; "tf1" is the one of FID, "clean" that of Clean-FID.
        weights: file of the weights; found in the caches when None.

    Raises:
        UserError: the weights or torch-fidelity are missing.
    """

    def __init__(self, resize: str | None = None, weights: Path | None = None) -> None:
        path = find_asset("inception", weights)
        package = _package("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity", "fid")
        whole = package.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
        # Its forward would resize a second time; its layers run in the order of definition.
        layers = [layer for name, layer in whole.named_children() if name != "fc"]
        self._classes: Tensor = whole.fc.weight
        super().__init__(
            nn.Sequential(*layers, nn.Flatten()),
            name="inception",
            weights_hash=ASSETS["inception"].sha256,
            shape=(3, 299, 299),
            resize=resize or "tf1",
            num_features=self._classes.shape[1],
            num_classes=self._classes.shape[0],
        )

    @property
    def is_standard_fid(self) -> bool:
        """Whether the images are resized as for FID."""
        return self.resize == "tf1"

    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        features = self.network((pixels - 128) / 128)
        return Features(features, features @ self._classes.to(features.device).T if with_logits else None)


class VisionTransformer(Extractor):
    """A timm ViT at 224x224; its features are the output of timm's head.

    Args:
        name: "dinov2" (class token, D = 1024) or "clip" (image embedding, D = 512).
        resize: the resize protocol.
        weights: file of the weights; found in the caches when None.

    Raises:
        UserError: the weights or timm are missing.
    """

    #: Name and head size in timm, and the mean and deviation of pixels in training.
    NETWORKS: ClassVar[dict[str, tuple[str, int, tuple[float, ...], tuple[float, ...]]]] = {
        "dinov2": ("vit_large_patch14_dinov2.lvd142m", 0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "clip": (
            "vit_base_patch32_clip_quickgelu_224.openai",
            512,
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        ),
    }

    def __init__(self, name: str, resize: str | None = None, weights: Path | None = None) -> None:
        path = find_asset(name, weights)
        timm = _package("timm", "timm", "timm")
        architecture, num_outputs, mean, deviation = self.NETWORKS[name]
        given: dict[str, Any] = {"file": str(path), "num_classes": num_outputs}
        network = timm.create_model(
            architecture, pretrained=True, pretrained_cfg_overlay=given, num_classes=num_outputs, img_size=224
        )
        self._mean, self._deviation = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (mean, deviation))
        super().__init__(
            network,
            name=name,
            weights_hash=ASSETS[name].sha256,
            shape=(3, 224, 224),
            resize=resize or "clean",
            num_features=num_outputs or network.num_features,
        )

    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        mean, deviation = self._mean.to(pixels.device), self._deviation.to(pixels.device)
        return Features(self.network((pixels - mean) / deviation), None)


class EfficientNetLite(Extractor):
    """EfficientNet-Lite0 at 224x224: pooled features, D = 1280, and logits of the 1000 classes of ImageNet.

    Args:
        resize: the resize protocol.
        weights: file of the weights; found in the installed package or the caches when None.

    Raises:
        UserError: the weights are missing.
    """

    def __init__(self, resize: str | None = None, weights: Path | None = None) -> None:
        network = load_efficientnet_lite(weights)
        super().__init__(
            network,
            name="efficientnet_lite0",
            weights_hash=ASSETS["efficientnet_lite0"].sha256,
            shape=(3, 224, 224),
            resize=resize or "clean",
            num_features=network.num_features,
            num_classes=network.num_classes,
        )

    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        network = self.network
        assert isinstance(network, EfficientNetLite0)
        features = network.features(pixels / 127.5 - 1)
        return Features(features, network.classifier(features) if with_logits else None)


def load_efficientnet_lite(weights: Path | None = None) -> EfficientNetLite0:
    """Return EfficientNet-Lite0 with its published weights, on the CPU and in training mode.

    Args:
        weights: file of the weights; found in the installed package or the caches when None.

    Raises:
        UserError: the weights are missing, or the file is a different one.
    """
    network = EfficientNetLite0()
    path = find_asset("efficientnet_lite0", weights)
    network.load_published(torch.load(path, map_location="cpu", weights_only=True))
    return network.to(memory_format=torch.channels_last)  # twice as fast on CPUs


def _package(module: str, distribution: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"This extractor needs {distribution}, which cannot be imported: {error}.",
            f"Run: pip install 'aigc-lightning[{extra}]'",
        ) from error
