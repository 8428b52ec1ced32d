"""Normalisation layers by name."""

from typing import Literal, get_args

from torch import nn

Norm = Literal["batch", "group", "instance", "none"]
NORMS: tuple[str, ...] = get_args(Norm)


def make_norm(name: Norm, channels: int) -> nn.Module:
    """Return a normalisation of feature maps (B, channels, H, W).

    Args:
        name: "batch", "group" (groups of 8 channels or one group), "instance" (with scale and shift) or "none".
        channels: of the feature maps.
    """
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.Identity()
