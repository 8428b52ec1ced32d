"""Backbones from the timm library, by name."""

from typing import Any

import torch
from torch import Tensor, nn

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError, did_you_mean


class TimmBackbone(nn.Module):
    """Maps images (B, C, H, W) to features (B, D) with a randomly initialised timm network.

    Args:
        name: as timm spells it, such as "convnext_atto" or "vit_tiny_patch16_224".
        spec: format of the images.

    Raises:
        UserError: timm is not installed or has no such network, or the network does not accept such images.
    """

    def __init__(self, name: str, spec: ImageSpec) -> None:
        super().__init__()
        try:
            import timm  # takes seconds to import, and is an optional dependency
        except ImportError as error:
            raise UserError(
                f"The backbone {name} comes from timm, which is not installed.",
                'Run: pip install "aigc-lightning[timm]", or set model.backbone to resnet.',
            ) from error
        if not timm.is_model(name):
            hint = did_you_mean(name, ["resnet", *timm.list_models()]) or "See timm.list_models()."
            raise UserError(f"timm has no network called {name!r}.", hint)
        # Networks with position embeddings are built for one size; the others accept any.
        fixed = getattr(timm.models.get_pretrained_cfg(name), "fixed_input_size", False)
        options: dict[str, Any] = {"img_size": (spec.height, spec.width)} if fixed else {}
        try:
            self.network = timm.create_model(name, pretrained=False, in_chans=spec.channels, num_classes=0, **options)
            self.num_features = self._count_features(spec)
        except Exception as error:  # each network raises different errors
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{name} does not accept images of {spec}: {reason}", "Choose another data.size, or another backbone."
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """Return the features that enter timm's classifier, float (B, D)."""
        features: Tensor = self.network(images)
        return features

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return only the features, since the layers before them differ between networks."""
        return [self(images)]

    def _count_features(self, spec: ImageSpec) -> int:
        self.network.eval()
        with torch.no_grad():
            features = self.network(torch.zeros(1, *spec.shape))
        self.network.train()
        return int(features.shape[1])
