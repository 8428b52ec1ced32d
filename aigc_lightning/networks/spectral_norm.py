"""Spectral normalisation of weights, in fewer operations than torch's.

Paper: Miyato et al., ICLR 2018, https://arxiv.org/abs/1802.05957 (algorithm 1, and equation 9 for the gradient)
Small discriminators spend much of their time on it, since torch's is some 25 small operations per layer and pass, the
gradient's among them. Values, buffers and checkpoints are the same as torch's, up to rounding.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import register_parametrization

Layer = TypeVar("Layer", bound=nn.Conv2d | nn.Linear)


def spectral_norm(layer: Layer) -> Layer:
    """Divide a layer's weight by its largest singular value whenever it is used, in place.

    Args:
        layer: its weight is seen as a matrix with one row per output. In training, every use of it is one step of the
            power iteration that finds the singular value.
    """
    register_parametrization(layer, "weight", _FewOperations(layer.weight))
    return layer


class _FewOperations(_SpectralNorm):
    """Torch's, whose buffers and name in checkpoints it keeps."""

    def forward(self, weight: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            by_torch: Tensor = super().forward(weight)
            return by_torch
        steps = self.n_power_iterations if self.training else 0
        normalized: Tensor = _Normalized.apply(weight, self._u, self._v, self.eps, steps)
        return normalized


class _Normalized(torch.autograd.Function):
    """A weight divided by its largest singular value, after some steps that improve the singular vectors in place."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, left: Tensor, right: Tensor, eps: float, steps: int) -> Tensor:
        matrix = weight.flatten(1)
        for _ in range(steps):
            product = torch.mv(matrix, right)
            torch.div(product, torch.linalg.vector_norm(product).clamp_min_(eps), out=left)
            product = torch.mv(matrix.t(), left)
            value = torch.linalg.vector_norm(product).clamp_min_(eps)
            torch.div(product, value, out=right)
        if not steps:
            value = torch.vdot(left, torch.mv(matrix, right))
        normalized: Tensor = weight / value
        # Copies, since the buffers move on before the backward pass if the weight is used again.
        ctx.save_for_backward(normalized, left.clone(), right.clone(), value)
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normalized, left, right, value = ctx.saved_tensors
        gradient = gradients[0]
        along = torch.outer(left * (gradient * normalized).sum(), right).view_as(gradient)
        return (gradient - along).div_(value), None, None, None, None
