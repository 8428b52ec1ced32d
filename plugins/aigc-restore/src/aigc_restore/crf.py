"""A conditional random field (CRF) over the labels of pixels, by mean field: a layer that refines label maps.

The energy of labels x is sum_i u_i(x_i) + sum_{i<j} k_ij mu(x_i, x_j), where the kernel k is large for pixels that are
close, and larger still if they have similar colours, and mu is the cost of two labels (Potts: 1 if they differ).

Papers: Krähenbühl, Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011,
https://arxiv.org/abs/1210.5644; Zheng et al., Conditional Random Fields as Recurrent Neural Networks, ICCV 2015,
https://arxiv.org/abs/1502.03240 (learned weights); Teichmann, Cipolla, Convolutional CRFs, BMVC 2019,
https://arxiv.org/abs/1805.04777 (windows in place of all pairs)
Departures from the papers: kernels are exact, neither filtered nor normalized.
Shapes: B batch, C channels, K labels, H and W height and width in pixels, N pixels.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

#: Pixels of an image of which all pairs count; those of more take too much memory.
LARGEST_DENSE = 64 * 64

#: Maps q (B, K, ...) to the sums over all other pixels j of k_ij q_j, of the same shape.
Messages = Callable[[Tensor], Tensor]


def mean_field(unaries: Tensor, messages: Messages, compatibility: Tensor, num_steps: int) -> Tensor:
    """Return the marginal probabilities q of a fully factorized approximation after parallel updates.

    Args:
        unaries: (B, K, ...) costs u of each label at each pixel, such as negative logits.
        messages: of the kernel k.
        compatibility: (K, K) costs mu.
        num_steps: updates (algorithm 1 of Krähenbühl and Koltun).

    Returns:
        (B, K, ...), which sum to 1 over K.
    """
    q = (-unaries).softmax(dim=1)
    for _ in range(num_steps):
        q = (-unaries - _costs(messages(q), compatibility)).softmax(dim=1)
    return q


def sequential_mean_field(unaries: Tensor, kernel: Tensor, compatibility: Tensor, num_sweeps: int) -> Tensor:
    """Return q after updates of one pixel after the other, none of which raises the free energy.

    Args:
        unaries: (B, K, N).
        kernel: (B, N, N), symmetric; its diagonal does not count.
        compatibility: (K, K).
        num_sweeps: updates of every pixel.
    """
    q = (-unaries).softmax(dim=1)
    kernel = kernel - torch.diag_embed(kernel.diagonal(dim1=1, dim2=2))
    for _ in range(num_sweeps):
        for i in range(unaries.shape[2]):
            message = torch.einsum("bj,bkj->bk", kernel[:, i], q)
            q = q.clone()
            q[:, :, i] = (-unaries[:, :, i] - _costs(message, compatibility)).softmax(dim=1)
    return q


def free_energy(q: Tensor, unaries: Tensor, messages: Messages, compatibility: Tensor) -> Tensor:
    """Return the variational free energy of q, (B,): never below the negative logarithm of the partition function.

    Args:
        q: (B, K, ...).
        unaries: the same shape.
        messages: of the kernel k.
        compatibility: (K, K).
    """
    pairs = 0.5 * q * _costs(messages(q), compatibility)
    entropy = torch.special.entr(q)
    total: Tensor = (q * unaries + pairs - entropy).flatten(1).sum(dim=1)
    return total


def dense_messages(kernel: Tensor) -> Messages:
    """Return the messages of a kernel (B, N, N), of which the diagonal does not count, for q (B, K, ...)."""
    kernel = kernel - torch.diag_embed(kernel.diagonal(dim1=1, dim2=2))
    return lambda q: (q.flatten(2) @ kernel.transpose(1, 2)).view_as(q)


def _costs(messages: Tensor, compatibility: Tensor) -> Tensor:
    return torch.einsum("kl,bl...->bk...", compatibility, messages)


class CRF(nn.Module):
    """Refines logits of labels by an image, with learnable weights: five numbers and the costs of pairs of labels.

    All pairs of pixels count in images of up to 64x64 pixels, and those within a window in larger ones.

    Args:
        num_labels: K.
        num_steps: updates of the mean field.
        radius: of the window in pixels; None for all pairs in small images, and 7 in larger ones.
        appearance_weight: weight of the kernel of places and colours.
        smoothness_weight: weight of the kernel of places alone.
        position_std: standard deviation of the places in the first kernel, in pixels.
        color_std: that of the colours, of values in [-1, 1].
        smoothness_std: that of the places in the second kernel, in pixels.
    """

    def __init__(
        self,
        num_labels: int,
        num_steps: int = 5,
        radius: int | None = None,
        appearance_weight: float = 1.0,
        smoothness_weight: float = 0.5,
        position_std: float = 6.0,
        color_std: float = 0.15,
        smoothness_std: float = 1.5,
    ) -> None:
        super().__init__()
        self.num_steps, self.radius = num_steps, radius
        # Logarithms, so that learning keeps them positive.
        self.log_weights = nn.Parameter(torch.tensor([appearance_weight, smoothness_weight]).log())
        self.log_stds = nn.Parameter(torch.tensor([position_std, color_std, smoothness_std]).log())
        self.compatibility = nn.Parameter(1 - torch.eye(num_labels))

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        """Return refined logits (B, K, H, W): logarithms of marginal probabilities.

        Args:
            logits: (B, K, H, W).
            images: (B, C, H, W) in [-1, 1], which labels should follow.
        """
        q = mean_field(-logits, self.messages(images), self.compatibility, self.num_steps)
        return q.clamp_min(torch.finfo(q.dtype).tiny).log()

    def messages(self, images: Tensor) -> Messages:
        """Return the messages of the kernel of images (B, C, H, W), for q (B, K, H, W)."""
        if self.radius is None and images.shape[-1] * images.shape[-2] <= LARGEST_DENSE:
            return dense_messages(self._kernel(images))
        return self._window_messages(images, 7 if self.radius is None else self.radius)

    def _kernel(self, images: Tensor) -> Tensor:
        """Return the kernel (B, N, N)."""
        height, width = images.shape[-2:]
        axes = [torch.arange(side, device=images.device, dtype=images.dtype) for side in (height, width)]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).T
        colors = images.flatten(2).transpose(1, 2)
        distances = (places[:, None] - places).square().sum(dim=2)
        # Not by torch.cdist, whose gradient is infinite where colours are equal.
        squares = colors.square().sum(dim=2)
        differences = squares[:, :, None] + squares[:, None] - 2 * colors @ colors.transpose(1, 2)
        return self._weighted(distances[None], differences.clamp_min(0))

    def _weighted(self, distances: Tensor, differences: Tensor) -> Tensor:
        """Return the kernel of squared distances of places and of colours, in pixels and on a scale of 2."""
        (appearance, smoothness), (position, color, smooth) = self.log_weights.exp(), self.log_stds.exp()
        first = appearance * torch.exp(-distances / (2 * position**2) - differences / (2 * color**2))
        kernel: Tensor = first + smoothness * torch.exp(-distances / (2 * smooth**2))
        return kernel

    def _window_messages(self, images: Tensor, radius: int) -> Messages:
        """Return the messages of pairs that differ by at most `radius` in each direction."""
        steps = range(-radius, radius + 1)
        offsets = [(y, x) for y, x in product(steps, steps) if (y, x) != (0, 0)]
        inside = _shifted(torch.ones_like(images[:1, :1]), radius)
        around = _shifted(images, radius)
        kernels = []
        for offset in offsets:
            distance = images.new_tensor(float(offset[0] ** 2 + offset[1] ** 2))
            difference = (around(offset) - images).square().sum(dim=1, keepdim=True)
            kernels.append(self._weighted(distance, difference) * inside(offset))

        def messages(q: Tensor) -> Tensor:
            neighbour = _shifted(q, radius)
            total = torch.zeros_like(q)
            for offset, kernel in zip(offsets, kernels, strict=True):
                total = total + kernel * neighbour(offset)
            return total

        return messages


def _shifted(values: Tensor, radius: int) -> Callable[[tuple[int, int]], Tensor]:
    """Return a function of an offset (y, x) that gives the values (B, ., H, W) there, 0 beyond the border."""
    padded, (height, width) = pad(values, [radius] * 4), values.shape[-2:]

    def at(offset: tuple[int, int]) -> Tensor:
        top, left = radius + offset[0], radius + offset[1]
        return padded[..., top : top + height, left : left + width]

    return at
