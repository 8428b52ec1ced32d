"""The first layers of EfficientNet-Lite0, as the frozen encoder of AdaIN.

Shapes: B batch, H and W height and width in pixels.
"""

from typing import Self

from aigc_lightning.evaluation.pretrained import load_efficientnet_lite
from aigc_lightning.networks.efficientnet_lite import EfficientNetLite0
from torch import Tensor, nn

_STAGES = 5  # down to 1/16 of the size
_SHOWN = (0, 1, 2, 4)  # the last stages of each resolution


class LiteEncoder(nn.Module):
    """Maps images (B, 3, H, W) to feature maps at 1/2, 1/4, 1/8 and 1/16 of the size.

    It is always in evaluation mode, and its parameters take no gradients. They are random until `load` is called or a
    checkpoint brings them.
    """

    def __init__(self) -> None:
        super().__init__()
        network = EfficientNetLite0()
        self.stem, self.stages = network.stem, network.stages[:_STAGES]
        self.eval().requires_grad_(False)

    def load(self) -> None:
        """Load the published weights.

        Raises:
            UserError: they are not installed.
        """
        network = load_efficientnet_lite()
        self.stem.load_state_dict(network.stem.state_dict())
        self.stages.load_state_dict(network.stages[:_STAGES].state_dict())

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images (B, 3, H, W) in [-1, 1]: 16, 24, 40 and 112 channels."""
        values, found = self.stem(images), []
        for number, stage in enumerate(self.stages):
            values = stage(values)
            if number in _SHOWN:
                found.append(values)
        return found
