"""The space that a process works in: pixels, or the latents of a first stage.

Paper: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022,
https://arxiv.org/abs/2112.10752
Departs from the paper: every channel of the latents is normalised by its own mean and standard deviation, measured on
the training data, in place of one scale for all (as in Karras et al., EDM2, CVPR 2024, https://arxiv.org/abs/2312.02696,
appendix A.2).
"""

import torch
from aigc_lightning.core.capabilities import FirstStage
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from torch import Tensor


def as_maps(latents: Tensor) -> Tensor:
    """Return latents as maps: vectors (B, D) as (B, D, 1, 1), others (B, D, h, w) as they are."""
    return latents[:, :, None, None] if latents.ndim == 2 else latents


def state_shape(first_stage: ImageModel | None, spec: ImageSpec) -> tuple[tuple[int, int, int], bool]:
    """Return the shape (C, H, W) of the states for the images of a spec, and whether latents are maps, not vectors.

    Args:
        first_stage: that encodes them, or None for pixels.
        spec: of the images.

    Raises:
        UserError: the first stage does not encode images like these.
    """
    if first_stage is None:
        return spec.shape, True
    name = type(first_stage).__name__
    if not isinstance(first_stage, FirstStage):
        raise UserError(f"model.first_stage is a {name}, which does not encode images.", "Use an autoencoder or vae.")
    if first_stage.spec.channels != spec.channels:
        raise UserError(
            f"The {name} of model.first_stage encodes {first_stage.spec}, the data are {spec}.", "Use another."
        )
    latents = first_stage.encode(torch.zeros(1, *spec.shape))
    _, channels, height, width = as_maps(latents).shape
    return (channels, height, width), latents.ndim == 4
