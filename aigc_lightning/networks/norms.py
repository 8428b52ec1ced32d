"""Normalisation layers by name."""

from typing import Literal, get_args

from torch import nn

Norm = Literal["batch", "group", "instance", "none"]
#: Without scale and shift; convolutions in front of it have biases, which have no effect but are in published weights.
PlainNorm = Literal["plain_instance"]
NORMS: tuple[str, ...] = get_args(Norm)


def make_norm(name: Norm | PlainNorm, channels: int) -> nn.Module:
    """Return a normalisation of feature maps (B, channels, H, W).

    Args:
        name: "batch", "group" (groups of 8 channels or one group), "instance" (with scale and shift), "plain_instance"
            (without) or "none".
        channels: of the feature maps.
    """
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if name == "plain_instance":
        return nn.InstanceNorm2d(channels)
    return nn.Identity()
