"""Networks that predict, and what they are told."""

from aigc_diffusion.networks.conditions import NO_CONDITIONS, ConditionedNetwork, Conditions
from aigc_diffusion.networks.dit import SIZES, DiT
from aigc_diffusion.networks.text import ByteEncoder, EncodedText
from aigc_diffusion.networks.unet import UNet

__all__ = ["NO_CONDITIONS", "SIZES", "ByteEncoder", "ConditionedNetwork", "Conditions", "DiT", "EncodedText", "UNet"]
