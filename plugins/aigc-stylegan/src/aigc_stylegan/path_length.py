"""Path-length regularisation.

Paper: Karras et al., StyleGAN2, CVPR 2020, https://arxiv.org/abs/1912.04958 (section 3.2 and appendix B)
Shapes: B batch, C channels, H and W height and width in pixels, S style size, L number of styles.
"""

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor


def path_lengths(images: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
    """Return the path lengths |J^T y| of equation 4, (B,): how fast images change with their styles.

    The noise is divided by sqrt(H W), so that lengths do not grow with the size of the image, and the square of a
    length is the mean over the L layers: with these the weight 2 is the one that the paper computes from the size
    (appendix B).

    Args:
        images: (B, C, H, W), computed from the styles.
        styles: (B, L, S).
        noise: y, (B, C, H, W), standard normal.

    Returns:
        Lengths that are differentiable with respect to the generator's parameters.
    """
    height, width = images.shape[-2:]
    moved = (images * noise).sum(dtype=torch.promote_types(images.dtype, torch.float32)) * (height * width) ** -0.5
    with without_autocast(styles.device):
        (slope,) = torch.autograd.grad(moved, styles, create_graph=True)
    squares: Tensor = slope.to(moved.dtype).square()
    return squares.sum(dim=2).mean(dim=1).sqrt()
