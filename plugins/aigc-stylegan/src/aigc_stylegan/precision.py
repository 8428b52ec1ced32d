"""Which parts of the networks use which dtype in mixed precision.

The four highest levels follow autocast; the lower ones, which cost little, the mapping network, styles and demodulation
keep the dtype of the weights (Karras et al., Training GANs with Limited Data, NeurIPS 2020, appendix D). The range of
float16 ends at 65,504: with it, modulation is normalised before the convolution and features are clamped after it, and
the regularisers, whose gradients would underflow, are computed without it. bfloat16 has the range of float32 and needs
none of that.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor

_LEVELS = 4
_LIMIT = 256.0


def precision_of(level: int, num_levels: int, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a level, 0 being the smallest: without autocast below the four highest."""
    return nullcontext() if level >= num_levels - _LEVELS else without_autocast(device)


def is_float16(device: torch.device) -> bool:
    """Return whether autocast to float16 is enabled."""
    return torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16


def without_float16(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that disables autocast to float16."""
    return without_autocast(device) if is_float16(device) else nullcontext()


def limited(features: Tensor) -> Tensor:
    """Return features clamped to +-256 if they are float16."""
    return features.clamp(-_LIMIT, _LIMIT) if features.dtype == torch.float16 else features


def normalised(weight: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight and styles rescaled to avoid overflow, with the same result after demodulation.

    Args:
        weight: (O, I, K, K).
        styles: (B, I).

    Returns:
        The weight, at most 1 / sqrt(I K K) in each output, and the styles, at most 1 in each image.
    """
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-8)
    strongest = styles.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
    return weight / (largest * weight[0].numel() ** 0.5), styles / strongest
