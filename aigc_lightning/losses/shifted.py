"""Images moved against the grid of networks with strides, before they enter a loss.

A convolution with stride S treats pixels differently by their position modulo S, and so do its gradients. A generator
that enlarges feature maps can follow these differences at every place alike, and draws a weave with a period of S
pixels. Moved by random distances, the images show the loss no fixed position, and the weave averages out.
Shapes: B batch, C channels, H and W height and width in pixels.
"""

import torch
from torch import Tensor

#: Number of positions in each direction: a multiple of the strides that draw patterns one can see.
PERIOD = 8


def shifted(images: Tensor, draws: Tensor) -> Tensor:
    """Return crops of images (B, C, H, W) that are 8 pixels smaller and begin at one of the first 8 rows and columns.

    Crops of the same images' targets with the same draws show the same places. Images with a side below 16 pixels are
    returned as they are.

    Args:
        images: any range.
        draws: (B, 2) in [0, 1): vertical and horizontal position.
    """
    if min(images.shape[-2:]) < 2 * PERIOD:
        return images
    for dim, draw in ((2, draws[:, 0]), (3, draws[:, 1])):
        start = (draw.float() * PERIOD).long().clamp(max=PERIOD - 1).to(images.device)  # numbers may be rounded up to 1
        places = start[:, None] + torch.arange(images.shape[dim] - PERIOD, device=images.device)
        index = places[:, None, :, None] if dim == 2 else places[:, None, None, :]
        shape = list(images.shape)
        shape[dim] -= PERIOD
        images = images.gather(dim, index.expand(shape))
    return images
