"""A convolutional autoencoder for images of any size, with or without skip connections.

Shapes: B batch, C channels, H and W height and width in pixels, N number of halvings, F channels at full size.
"""

from itertools import pairwise

from torch import Tensor, nn

from aigc_lightning.networks.residual import PreactivationBlock, crop, pad_to_multiple


class Autoencoder(nn.Module):
    """Maps images to images through feature maps of 1/2, 1/4, ... 1/2^N of their size.

    With skip connections (Ronneberger et al., MICCAI 2015) the decoder adds the encoder's features of each size, and
    the network predicts a correction of its input, for restoration. Without them, everything passes through the code.

    Args:
        channels: C.
        width: F; doubled at each downsampling step.
        num_halvings: N.
        num_blocks: residual blocks at each size, in encoder and decoder.
        code_channels: channels of the code where there are no skip connections; with them the code is the smallest
            feature maps.
        skips: whether there are skip connections.
    """

    def __init__(
        self, channels: int, width: int, num_halvings: int, num_blocks: int, code_channels: int, skips: bool
    ) -> None:
        super().__init__()
        self.multiple, self.skips = 2**num_halvings, skips
        widths = [width * 2**level for level in range(num_halvings + 1)]

        def blocks(size: int) -> nn.Sequential:
            return nn.Sequential(*(PreactivationBlock(size) for _ in range(num_blocks)))

        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(blocks(size) for size in widths)
        self.halvings = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairwise(widths))
        self.squeeze = nn.Identity() if skips else nn.Conv2d(widths[-1], code_channels, 1)
        self.expand = nn.Identity() if skips else nn.Conv2d(code_channels, widths[-1], 1)
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(blocks(size) for size in widths[:-1])
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        if skips:  # so that training starts from the input itself
            nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) for images (B, C, H, W); the range is not bounded."""
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple)
        code, features = self._encoded(padded)
        outputs = self._decoded(code, features if self.skips else [])
        return crop(padded + outputs if self.skips else outputs, height, width)

    def encode(self, images: Tensor) -> Tensor:
        """Return the code (B, code channels, ceil(H / 2^N), ceil(W / 2^N)) of images (B, C, H, W)."""
        return self._encoded(pad_to_multiple(images, self.multiple))[0]

    def decode(self, code: Tensor) -> Tensor:
        """Return images (B, C, 2^N h, 2^N w) for codes (B, code channels, h, w) of a network without skips."""
        return self._decoded(code, [])

    def _decoded(self, code: Tensor, skipped: list[Tensor]) -> Tensor:
        """Return images for a code, and for what skips bring from the encoder, from fine to coarse."""
        outputs: Tensor = self.expand(code)
        for doubling, blocks in zip(reversed(self.doublings), reversed(self.decoder), strict=True):
            outputs = doubling(outputs)
            outputs = blocks(outputs + skipped.pop() if skipped else outputs)
        images: Tensor = self.last(outputs)
        return images

    def _encoded(self, padded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the code, and the features of each larger size from fine to coarse."""
        features: list[Tensor] = []
        outputs: Tensor = self.encoder[0](self.first(padded))
        for halving, blocks in zip(self.halvings, self.encoder[1:], strict=True):
            features.append(outputs)
            outputs = blocks(halving(outputs))
        code: Tensor = self.squeeze(outputs)
        return code, features
