"""Convolutions that see only the pixels before a pixel, and of the pixel itself only the earlier channels.

Paper: van den Oord et al., Pixel Recurrent Neural Networks, ICML 2016, https://arxiv.org/abs/1601.06759, section 3.4
Departs from the paper: in nothing; images may have any number of channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedConv2d(nn.Conv2d):
    """Convolution with one of the paper's masks.

    Features belong to image channels: the first ones to the first channel, and so on, in nearly equal shares.

    Args:
        in_channels: features that come in.
        out_channels: features of the result.
        kernel_size: odd.
        num_groups: image channels that the features belong to.
        sees_own: whether features of a channel see those of the same channel at the same pixel: mask B of the paper;
            without them mask A, for the image itself.
        repeats: parts that the result consists of, each with features of all channels, such as the gates of an LSTM.
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        num_groups: int,
        *,
        sees_own: bool = True,
        repeats: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        sources = owners(in_channels, num_groups)
        targets = owners(out_channels // repeats, num_groups).repeat(repeats)
        centre = kernel_size // 2
        mask = torch.ones(out_channels, in_channels, kernel_size, kernel_size)
        mask[:, :, centre, centre:] = 0
        mask[:, :, centre + 1 :] = 0
        mask[:, :, centre, centre] = (sources < targets[:, None] + int(sees_own)).float()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, `out_channels`, H, W)."""
        return functional.conv2d(features, self.weight * self.mask, self.bias, padding=self.padding)


def owners(num_features: int, num_groups: int) -> Tensor:
    """Return for each feature the image channel that it belongs to, int64 (`num_features`,)."""
    return torch.arange(num_features) * num_groups // num_features
