"""SwinIR: transformer blocks whose attention looks at windows, every second one shifted by half a window.

Papers: Liang et al., SwinIR, ICCVW 2021, https://arxiv.org/abs/2108.10257; Liu et al., Swin Transformer, ICCV 2021,
https://arxiv.org/abs/2103.14030
Departures from the papers: pixels lie in [-1, 1], and the mean of the training images is not subtracted; no stochastic
depth.
Shapes: B batch, C channels, F features, H and W height and width in pixels, S scale, N pixels of a window, K windows.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, leaky_relu, pad, scaled_dot_product_attention

from aigc_restore.networks.upsampling import sub_pixel

_BEFORE_UPSAMPLING = 64  # features, of the classical networks


def windows(features: Tensor, side: int) -> Tensor:
    """Cut (B, H, W, F) into windows (B, K, N, F), row by row; H and W are multiples of the side."""
    batch, height, width, depth = features.shape
    cut = features.view(batch, height // side, side, width // side, side, depth).transpose(2, 3)
    return cut.reshape(batch, -1, side * side, depth)


def joined(cut: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo `windows`."""
    batch, depth = len(cut), cut.shape[-1]
    rows = cut.view(batch, height // side, width // side, side, side, depth).transpose(2, 3)
    return rows.reshape(batch, height, width, depth)


def shift_mask(height: int, width: int, side: int, device: torch.device) -> Tensor:
    """Return which pixels of a window of the shifted image were neighbours before, bool (K, 1, N, N)."""
    region = torch.zeros(1, height, width, 1, device=device)
    for number, (rows, columns) in enumerate((a, b) for a in _bands(side) for b in _bands(side)):
        region[:, rows, columns] = number
    ids = windows(region, side)[0, :, :, 0]
    return (ids[:, None, :] == ids[:, :, None])[:, None]


def _bands(side: int) -> tuple[slice, slice, slice]:
    return slice(0, -side), slice(-side, -(side // 2)), slice(-(side // 2), None)


class WindowAttention(nn.Module):
    """Multi-head attention within windows (B, K, N, F), with a learned bias for each relative position."""

    def __init__(self, width: int, side: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * side - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
        offset = place[:, :, None] - place[:, None, :] + side - 1
        self.index: Tensor
        self.register_buffer("index", offset[0] * (2 * side - 1) + offset[1], persistent=False)

    def forward(self, cut: Tensor, mask: Tensor | None) -> Tensor:
        """Return (B, K, N, F).

        Args:
            cut: (B, K, N, F).
            mask: of `shift_mask`; None lets all pixels of a window see each other.
        """
        batch, count, pixels, width = cut.shape
        parts = self.query_key_value(cut).view(batch, count, pixels, 3, self.num_heads, width // self.num_heads)
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5)  # (B, K, heads, N, F / heads) each
        bias = self.bias[self.index].permute(2, 0, 1).to(query.dtype)  # (heads, N, N)
        if mask is not None:
            bias = torch.where(mask, bias, -torch.inf)
        found = scaled_dot_product_attention(query, key, value, attn_mask=bias)
        output: Tensor = self.projection(found.transpose(2, 3).reshape(batch, count, pixels, width))
        return output


class SwinLayer(nn.Module):
    """Attention within windows and a perceptron, each after a layer norm and added to its input (B, H, W, F)."""

    def __init__(self, width: int, side: int, num_heads: int, shifted: bool, mlp_ratio: float) -> None:
        super().__init__()
        self.side, self.shift = side, side // 2 if shifted else 0
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, side, num_heads)
        hidden = int(width * mlp_ratio)
        self.expansion, self.reduction = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return features of the same shape.

        Args:
            features: (B, H, W, F), H and W being multiples of the side of a window.
            mask: of `shift_mask`.
        """
        height, width = features.shape[1:3]
        moved = torch.roll(self.norm_1(features), (-self.shift, -self.shift), (1, 2))
        found = self.attention(windows(moved, self.side), mask if self.shift else None)
        features = features + torch.roll(joined(found, self.side, height, width), (self.shift, self.shift), (1, 2))
        output: Tensor = features + self.reduction(gelu(self.expansion(self.norm_2(features))))
        return output


class SwinBlock(nn.Module):
    """Swin layers and a convolution, added to the input (B, F, H, W)."""

    def __init__(self, width: int, depth: int, side: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SwinLayer(width, side, num_heads, number % 2 == 1, mlp_ratio) for number in range(depth)
        )
        self.convolution = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Return features of the same shape."""
        inner = features.permute(0, 2, 3, 1)
        for layer in self.layers:
            inner = layer(inner, mask)
        output: Tensor = features + self.convolution(inner.permute(0, 3, 1, 2))
        return output


class SwinIR(nn.Module):
    """Maps images (B, C, H, W) of any size to (B, C, S H, S W).

    The medium network has the defaults; the light one 60 features, depths and heads of (6, 6, 6, 6) and
    `upsampler="direct"`.

    Args:
        channels: C.
        scale: S: 2, 3, 4 or 8.
        width: F.
        depths: layers of each block.
        num_heads: attention heads of each block, divisors of F.
        side: of a window in pixels; even.
        mlp_ratio: hidden features of a layer's perceptron, divided by F.
        upsampler: "classical" (convolutions of 64 features) or "direct" (one convolution and pixel shuffling).

    Attributes:
        reach: None: so many windows depend on each other that tiles of practical size differ from the whole.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6, 6, 6),
        side: int = 8,
        mlp_ratio: float = 2.0,
        upsampler: Literal["classical", "direct"] = "classical",
    ) -> None:
        super().__init__()
        self.side, self.scale, self.reach = side, scale, None
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.first_norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            SwinBlock(width, depth, side, heads, mlp_ratio) for depth, heads in zip(depths, num_heads, strict=True)
        )
        self.body_end = nn.Conv2d(width, width, 3, padding=1)
        self.before_upsampling: nn.Conv2d | None = None
        self.upsampling: nn.Module
        if upsampler == "classical":
            self.before_upsampling = nn.Conv2d(width, _BEFORE_UPSAMPLING, 3, padding=1)
            self.upsampling = sub_pixel(_BEFORE_UPSAMPLING, scale)
            self.last = nn.Conv2d(_BEFORE_UPSAMPLING, channels, 3, padding=1)
        else:
            self.upsampling = nn.PixelShuffle(scale)
            self.last = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return enlarged images, unclipped; images are padded to whole windows."""
        height, width = images.shape[-2:]
        right, bottom = -width % self.side, -height % self.side
        mode = "reflect" if right < width and bottom < height else "replicate"
        features = self.head(pad(images, [0, right, 0, bottom], mode=mode))
        features = features + self.body_end(self._body(features))
        output: Tensor
        if self.before_upsampling is None:
            output = self.upsampling(self.last(features))
        else:
            output = self.last(self.upsampling(leaky_relu(self.before_upsampling(features), 0.01)))
        return output[..., : self.scale * height, : self.scale * width]

    def _body(self, features: Tensor) -> Tensor:
        mask = shift_mask(features.shape[-2], features.shape[-1], self.side, features.device)
        inner = _normalized(features, self.first_norm)
        for block in self.blocks:
            inner = block(inner, mask)
        return _normalized(inner, self.last_norm)


def _normalized(features: Tensor, norm: nn.Module) -> Tensor:
    """Return (B, F, H, W) after a layer norm over F."""
    output: Tensor = norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return output
