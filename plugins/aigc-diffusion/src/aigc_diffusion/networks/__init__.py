"""Networks that predict, and what they are told."""

from aigc_diffusion.networks.conditions import NO_CONDITIONS, ConditionedNetwork, Conditions
from aigc_diffusion.networks.dit import SIZES, DiT
from aigc_diffusion.networks.unet import UNet

__all__ = ["NO_CONDITIONS", "SIZES", "ConditionedNetwork", "Conditions", "DiT", "UNet"]
