"""A pool of earlier generated images that are shown to the discriminator again.

Source: Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial Training, CVPR 2017,
section 2.3, https://arxiv.org/abs/1612.07828 (there half of a batch; here each image by chance, as in Zhu et al., ICCV
2017, section 4).

There is one pool per run, whatever the number of processes: all of them hold the same images and treat the global batch
as one process would. What happens to a sample depends on the seed, the step and its position in the global batch.
During a step the pool is fixed, so that micro-batches see what the whole batch would; new images are added at the
step's end.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from aigc_lightning.core import keyed

_TAKEN = 0.5  # probability that an image is replaced by an earlier one


class ImagePool:
    """A pool of earlier images.

    Args:
        size: capacity in images; 0 disables the pool.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        #: The images (n, C, H, W) so far, n up to `size`; None before the first.
        self.images: Tensor | None = None

    def mixed(self, images: Tensor, start: int, total: int, *key: int) -> Tensor:
        """Return the images, some of them replaced by earlier ones: none until the pool is full, then half of them.

        Args:
            images: (B, C, H, W), new ones, this process's part of the global batch.
            start: position of the first in the global batch.
            total: samples of the global batch.
            *key: of the step.
        """
        rows, slots = self._exchanges(total, *key)
        here = (rows >= start) & (rows < start + len(images))
        if self.images is None or not len(rows):
            return images
        old = self.images.to(images)[slots[here].to(images.device)]
        return images.index_copy(0, (rows[here] - start).to(images.device), old)

    def remember(self, images: Tensor, *key: int) -> None:
        """Add new images: all until the pool is full, then each takes the place of the image shown in its stead.

        Args:
            images: (B, C, H, W), the new images of the global batch.
            *key: of the step.
        """
        rows, slots = self._exchanges(len(images), *key)
        old = images[:0] if self.images is None else self.images.to(images)
        if len(old) < self.size:
            self.images = torch.cat([old, images[: self.size - len(old)]])
        else:
            self.images = old.index_copy_(0, slots.to(images.device), images[rows.to(images.device)])

    def _exchanges(self, total: int, *key: int) -> tuple[Tensor, Tensor]:
        """Return which rows of the global batch are replaced, and the places of the images that replace them."""
        if self.size == 0 or self.images is None or len(self.images) < self.size:
            return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        generator = keyed.generator(*key)
        # Distinct places, so that no row takes what another one puts back.
        slots = torch.randperm(self.size, generator=generator)[:total]
        rows = (torch.rand(len(slots), generator=generator) < _TAKEN).nonzero().flatten()
        return rows, slots[rows]


def joined(images: Tensor, start: int, total: int) -> Tensor:
    """Return the images of all processes in the order of the global batch; a collective operation.

    Args:
        images: (B, C, H, W) of this process.
        start: position of the first in the global batch.
        total: samples of the global batch.
    """
    if len(images) == total:
        return images
    # Shares may differ in size, which gathering does not support; sums with zeros are exact.
    whole = images.new_zeros(total, *images.shape[1:])
    whole[start : start + len(images)] = images
    dist.all_reduce(whole)
    return whole
