"""Images as integers: which of the equally spaced levels in [-1, 1] each number is."""

from torch import Tensor


def to_levels(images: Tensor, num_levels: int = 256) -> Tensor:
    """Return the nearest levels, int64 from 0 to `num_levels` - 1, in the shape of the images.

    Args:
        images: in [-1, 1]; values outside get the outermost levels.
        num_levels: at least 2; 256 for 8-bit images.
    """
    return ((images + 1) * ((num_levels - 1) / 2)).round().clamp(0, num_levels - 1).long()


def to_images(levels: Tensor, num_levels: int = 256) -> Tensor:
    """Return the values in [-1, 1] of levels, float32; the inverse of `to_levels`."""
    return levels.float() * (2 / (num_levels - 1)) - 1


def to_tokens(images: Tensor, num_levels: int = 256) -> Tensor:
    """Return images (B, C, H, W) as sequences of levels, int64 (B, H W C): row by row, a pixel's channels together."""
    return to_levels(images, num_levels).movedim(1, -1).flatten(1)


def from_tokens(tokens: Tensor, shape: tuple[int, int, int], num_levels: int = 256) -> Tensor:
    """Undo `to_tokens`, given C, H and W; float32."""
    channels, height, width = shape
    return to_images(tokens.view(len(tokens), height, width, channels).movedim(-1, 1), num_levels)
