"""Networks that write bits into images and read them again.

The encoder knows what the decoder reads in an image, and writes where that is wrong or uncertain ("informed
embedding": Miller et al., IEEE Transactions on Image Processing 2004; spread spectrum: Cox et al., 1997).
Shapes: B batch, C channels, S side of the working image, N bits. Images lie in [-1, 1], bits are +1 or -1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Decoder(nn.Module):
    """Reads bits from working images.

    Args:
        channels: C.
        side: S.
        num_bits: N.
        width: channels of the convolutions.
    """

    def __init__(self, channels: int, side: int, num_bits: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Linear((channels + width) * side * side, num_bits)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, N), positive for +1, of images (B, C, S, S)."""
        features = functional.silu(self.second(functional.silu(self.first(images))))
        logits: Tensor = self.last(torch.cat([images, features], dim=1).flatten(1))
        return logits


class Encoder(nn.Module):
    """Finds a change of a working image that makes a decoder read given bits.

    Args:
        channels: C.
        side: S.
        num_bits: N.
        rounds: how often it corrects what the decoder reads.
    """

    def __init__(self, channels: int, side: int, num_bits: int, rounds: int) -> None:
        super().__init__()
        self.patterns = nn.Parameter(torch.randn(num_bits, channels, side, side))
        self.slopes = nn.Parameter(torch.ones(rounds))
        self.margins = nn.Parameter(torch.ones(rounds))
        self.steps = nn.Parameter(torch.ones(rounds))

    def forward(self, images: Tensor, bits: Tensor, decoder: nn.Module, strength: float) -> Tensor:
        """Return a change (B, C, S, S) of images whose root mean square is `strength`.

        Args:
            images: (B, C, S, S).
            bits: (B, N) of +1 and -1.
            decoder: what reads the bits.
            strength: root mean square, in units of the images.
        """
        change = torch.zeros_like(images)
        for slope, margin, step in zip(self.slopes, self.margins, self.steps, strict=True):
            agreement = bits * decoder((images + change).clamp(-1, 1))
            weights = bits * step * torch.sigmoid(slope * (margin - agreement)) / bits.shape[1] ** 0.5
            change = change + strength * torch.einsum("bn,nchw->bchw", weights, self.patterns)
            change = strength * normalized(change)
        return change


def initialize(encoder: Encoder, decoder: Decoder, strength: float) -> None:
    """Start as plain spread spectrum: random patterns of medium frequencies, which the decoder correlates with.

    Args:
        encoder: its patterns are drawn.
        decoder: its last layer takes them, so that a mark alone gives logits of about 3.
        strength: root mean square of a mark.
    """
    count, channels, side, _ = encoder.patterns.shape
    place = torch.arange(side)
    waves = torch.cos(torch.pi * (place[None] + 0.5) * place[:, None] / side)  # DCT-II
    radius = (place[:, None].square() + place[None].square()).sqrt() / side
    drawn = torch.randn(count, channels, side, side) * ((radius > 0.15) & (radius < 0.6))
    patterns = normalized(waves.T @ drawn @ waves)
    pixels = channels * side * side
    with torch.no_grad():
        encoder.patterns.copy_(patterns)
        decoder.last.weight.zero_()
        decoder.last.weight[:, :pixels] = 3 * count**0.5 / (strength * pixels) * patterns.flatten(1)
        decoder.last.bias.zero_()


def normalized(change: Tensor) -> Tensor:
    """Return changes (B, ...) divided by their root mean square."""
    return change / (change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-8)


def scaled_to(strength: float, change: Tensor, images: Tensor) -> Tensor:
    """Return changes (B, C, H, W) scaled so that they have a root mean square once images are clipped.

    Black and white areas take half of a change. What they lose is given to the others, up to twice the strength.

    Args:
        strength: root mean square of what clipping leaves, in units of the images.
        change: (B, C, H, W), with a root mean square of 1.
        images: (B, C, H, W) in [-1, 1], to be changed.
    """
    scale = torch.full_like(change[:, :1, :1, :1], strength)
    with torch.no_grad():
        for _ in range(3):
            left = (images + scale * change).clamp(-1, 1) - images
            root = left.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            scale = (scale * strength / root.clamp(min=1e-8)).clamp(max=2 * strength)
    return scale * change


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Return images (B, C, height, width), interpolated bilinearly and without aliasing."""
    if images.shape[-2:] == (height, width):
        return images
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
