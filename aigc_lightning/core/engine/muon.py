"""Muon: steps along orthogonalized momentum for the weights of layers, and AdamW's for everything else.

Sources: Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/ (momentum, the polynomial and its
coefficients); Liu et al., Muon is Scalable for LLM Training, 2025, https://arxiv.org/abs/2502.16982 (equation 4: the
length of steps, with which one learning rate serves both kinds of weights)
Departures: the polynomial is computed on products of rows, and weights of one shape together, which takes a third of
the time on a processor; all in float32. torch.optim.Muon has neither convolutions nor AdamW for the rest.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from aigc_lightning.errors import UserError

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # of a step of AdamW, by Liu et al.


class Muon(Optimizer):
    """Trains weights of two and more dimensions by Muon; embeddings, norms and biases by AdamW.

    A convolution's kernel is taken as a matrix (channels out, channels in x height x width). With the same learning
    rate, both kinds of weights move about as far as with AdamW.

    Args:
        modules: networks, whose parameters are trained.
        lr: learning rate.
        momentum: part of the sum of gradients that a step keeps (Nesterov's momentum).
        betas: AdamW's decay rates.
        weight_decay: of the weights that Muon trains, decoupled as in AdamW.
        eps: of AdamW.

    Raises:
        UserError: parameters are shared out among processes: a step needs whole matrices.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        matrices, others = _split(modules)
        if any(_is_shared_out(parameter) for parameter in matrices):
            what = "Muon needs whole weights, but the strategy model_parallel shares them out among processes."
            raise UserError(what, "Use another strategy, or --model.optimizer adamw.")
        groups: list[dict[str, Any]] = [
            {"params": parameters, "is_orthogonal": kind}
            for parameters, kind in ((matrices, True), (others, False))
            if parameters
        ]
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the parameters that have gradients.

        Args:
            closure: computes the loss and the gradients first.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["is_orthogonal"]:
                self._step_of_matrices(parameters, group)
            elif parameters:
                self._step_of_others(parameters, group)
        return loss

    def _step_of_matrices(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Take Muon's step, for all matrices of a shape at once."""
        by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            momentum = state["momentum_buffer"].mul_(group["momentum"]).add_(parameter.grad)
            matrix = parameter.grad.add(momentum, alpha=group["momentum"]).flatten(1)
            by_shape.setdefault((matrix.shape[0], matrix.shape[1]), []).append((parameter, matrix))
        for shape, found in by_shape.items():
            steps = orthogonalized(torch.stack([matrix for _, matrix in found]))
            for (parameter, _), step in zip(found, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step.view(parameter.shape), alpha=-group["lr"] * _RMS * max(shape) ** 0.5)

    def _step_of_others(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Take AdamW's step, without weight decay."""
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices with the same singular vectors and with singular values near 1, from 0.7 to 1.2.

    Five times, each singular value s of the matrix divided by its norm becomes a s + b s^3 + c s^5.

    Args:
        matrices: (N, R, C).
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    wide = (matrices.mT if is_tall else matrices).float()
    wide = wide / (wide.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    first, third, fifth = _COEFFICIENTS
    products = wide @ wide.mT  # of rows; those of the result follow from the polynomial in them
    identity = torch.eye(wide.shape[1], device=wide.device)
    total = identity
    for _ in range(_ITERATIONS):
        factor = torch.baddbmm(first * identity + third * products, products, products, alpha=fifth)
        total = factor @ total
        products = factor @ products @ factor
    result: Tensor = (total @ wide).to(matrices.dtype)
    return result.mT if is_tall else result


def _split(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters for Muon, and those for AdamW."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        embeddings = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
        for parameter in module.parameters():
            is_matrix = parameter.ndim > 1 and min(parameter.flatten(1).shape) > 1 and id(parameter) not in embeddings
            (matrices if is_matrix else others).append(parameter)
    return matrices, others


def _is_shared_out(parameter: nn.Parameter) -> bool:
    if not torch.distributed.is_initialized():
        return False
    from torch.distributed.tensor import DTensor  # takes half a second, which a single process need not wait

    return isinstance(parameter, DTensor)
