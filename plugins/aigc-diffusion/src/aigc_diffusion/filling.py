"""Changing images by noising and denoising them, as a whole or within a mask.

Paper: Meng et al., SDEdit, ICLR 2022, https://arxiv.org/abs/2108.01073
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor

from aigc_diffusion.samplers import Sampler


def filled(
    sampler: Sampler, images: Tensor, noise: Tensor, masks: Tensor | None, strength: float, steps: int
) -> Tensor:
    """Return states (B, C, H, W) that were noised up to a share of the sampler's time and denoised again.

    Args:
        sampler: with the network's estimates.
        images: (B, C, H, W), or their latents.
        noise: standard normal, of this shape.
        masks: (B, 1, H, W), 1 where images are changed; None for everywhere. The rest stays exactly as it is.
        strength: the share, above 0 and at most 1.
        steps: of the whole sampler, of which at least one is taken.
    """
    times = sampler.times(steps)[min(round((1 - strength) * steps), steps - 1) :]
    fill = torch.ones_like(images[:, :1]) if masks is None else masks.to(images)
    precise = torch.float32 if images.device.type == "mps" else torch.float64  # as in `Sampler.run`
    known, eps = images.to(precise), noise.to(images.device, precise)
    state = sampler.process.noised(known, eps, times[0])
    for number, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        state = sampler.step(state, t.item(), s.item(), number)
        state = torch.where(fill > 0, state, sampler.process.noised(known, eps, s))
    return torch.where(fill > 0, state.to(images), images)
