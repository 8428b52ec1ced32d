"""What flow matching, EDM, VP diffusion and MeanFlow have in common.

A process moves an image x0 to Gaussian noise eps along a straight line, and its time t is the amount of noise:

    x_t = alpha(t) x0 + t eps,    alpha(t) = 1 - t  (flow matching, VP, MeanFlow)  or  alpha(t) = 1  (EDM).

Time 0 is the image; the largest time is noise. A network that sees x_t is trained to return a mix of the two,

    target = a(t) x0 + b(t) eps,

which covers the prediction of x0, of eps, of the velocity and EDM's preconditioned output. State and target are two
linear equations in x0 and eps. Solving them gives the denoised image, velocity and score for every kind of prediction,
without a division by t, so that nothing special happens at clean images.

Shapes: B batch, C channels, H and W height and width in pixels, K numbers that describe a noise level to the network.
Times are float64 tensors, one for a batch () or one a sample (B,).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.checks import check_steps


class Network(Protocol):
    """A network with the conditions of a batch filled in, such as `networks.ConditionedNetwork`."""

    def __call__(self, state: Tensor, level: Tensor) -> Tensor:
        """Return predictions for scaled states (B, C, H, W) at noise levels (B, K)."""
        ...

    def rows(self, rows: Tensor) -> "Network":
        """Return the network for some of the samples, given by their numbers."""
        ...


class Mix(NamedTuple):
    """Coefficients of x0 and eps, of the shape of the times."""

    x0: Tensor
    eps: Tensor


class Pair(NamedTuple):
    """What a network is trained on.

    Args:
        state: (B, C, H, W), scaled as the network wants it.
        level: (B, K) noise levels as the network wants them.
        target: (B, C, H, W).
    """

    state: Tensor
    level: Tensor
    target: Tensor


class Estimate(NamedTuple):
    """The two parts of a state as a network sees them, each (B, C, H, W): the denoised image and the noise."""

    x0: Tensor
    eps: Tensor


class Process(ABC):
    """A way from images to noise, and what its network predicts.

    Attributes:
        alpha_slope: the derivative of alpha: -1 or 0.
        level_size: K.
        draws: numbers in [0, 1) from which a sample's training times are made.
        max_time: where sampling starts, from noise of this standard deviation.
        min_time: the smallest time at which the network can be evaluated.
    """

    alpha_slope: ClassVar[float] = -1.0
    level_size: ClassVar[int] = 1
    draws: ClassVar[int] = 1
    max_time: float
    min_time: float

    # ---- what a process says about itself

    @abstractmethod
    def target(self, t: Tensor) -> Mix:
        """Return the mix that the network predicts at a time."""

    @abstractmethod
    def level(self, t: Tensor, s: Tensor) -> Tensor:
        """Return the noise levels (..., K) that the network sees.

        Args:
            t: time of the state.
            s: time to which a step leads; only MeanFlow looks at it.
        """

    @abstractmethod
    def spread(self, share: Tensor) -> Tensor:
        """Return the times at shares from 0 to 1 of the way from `max_time` to `min_time`, for integration."""

    @abstractmethod
    def uniform_times(self, numbers: Tensor) -> Tensor:
        """Return training times for numbers in [0, 1): uniform in the clock that the process's paper draws from."""

    @abstractmethod
    def grid(self, steps: int) -> Tensor:
        """Return the times (steps + 1,) of a sampler, from `max_time` to 0.

        Raises:
            UserError: fewer steps than 1.
        """

    def grid_with_short_end(self, steps: int) -> Tensor:
        """Return times (steps + 1,) from `max_time` to 0, of which the last but one is `min_time`.

        Raises:
            UserError: fewer steps than 1.
        """
        check_steps(steps)
        times = self.spread(torch.linspace(0, 1, steps, dtype=torch.float64))
        return torch.cat([times, times.new_zeros(1)])

    def input_scale(self, t: Tensor) -> Tensor:
        """Return the factor of the state in front of the network (c_in of EDM)."""
        return torch.ones_like(t)

    # ---- what follows

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of x0 in the state."""
        return 1.0 + self.alpha_slope * t

    def ratio(self, t: Tensor) -> Tensor:
        """Return the noise-to-signal ratio t / alpha(t), which is EDM's sigma; infinite where there is no signal."""
        return t / self.alpha(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """Return the time with a noise-to-signal ratio."""
        return ratio / (1.0 - self.alpha_slope * ratio)

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """Return states (B, C, H, W) for images and noise of this shape."""
        return per_sample(self.alpha(t), x0) * x0 + per_sample(t, x0) * eps

    def pair(self, x0: Tensor, eps: Tensor, t: Tensor) -> Pair:
        """Return what the network is trained on, for images and noise (B, C, H, W) and times (B,)."""
        mix = self.target(t)
        target = per_sample(mix.x0, x0) * x0 + per_sample(mix.eps, x0) * eps
        state = per_sample(self.input_scale(t), x0) * self.noised(x0, eps, t)
        return Pair(state, self.level(t, t).to(x0.dtype), target)

    def training_times(self, sampling: Callable[[Tensor], Tensor], numbers: Tensor) -> Tensor:
        """Return the times that `errors` takes, float64 (B, 1), or (B, 2) for MeanFlow.

        Args:
            sampling: turns numbers in [0, 1) into times (`aigc_diffusion.times`).
            numbers: (B, draws) in [0, 1).
        """
        return sampling(numbers.double())

    def errors(self, network: Network, x0: Tensor, eps: Tensor, times: Tensor) -> Tensor:
        """Return the mean squared error (B,) of the network's predictions.

        Args:
            network: that predicts.
            x0: images (B, C, H, W).
            eps: standard normal noise of this shape.
            times: those of `training_times`.
        """
        pair = self.pair(x0, eps, times[:, 0])
        return (network(pair.state, pair.level) - pair.target).square().flatten(1).mean(dim=1)

    def estimate(self, x: Tensor, output: Tensor, t: Tensor) -> Estimate:
        """Return the denoised image and the noise that states (B, C, H, W) and the network's outputs amount to."""
        alpha, (a, b), determinant = self.alpha(t), self.target(t), self.determinant(t)
        output = output.to(x.dtype)
        x0 = per_sample(b / determinant, x) * x - per_sample(t / determinant, x) * output
        eps = per_sample(alpha / determinant, x) * output - per_sample(a / determinant, x) * x
        return Estimate(x0, eps)

    def determinant(self, t: Tensor) -> Tensor:
        """Return the determinant of the equations for x0 and eps: errors of x0 are -t / determinant times those of
        the network."""
        mix = self.target(t)
        return self.alpha(t) * mix.eps - t * mix.x0

    def velocity(self, estimate: Estimate) -> Tensor:
        """Return dx/dt of the probability-flow ODE (B, C, H, W)."""
        return estimate.eps + self.alpha_slope * estimate.x0

    def score(self, estimate: Estimate, t: Tensor) -> Tensor:
        """Return the gradient of the log-density of states, (B, C, H, W)."""
        return -estimate.eps / per_sample(t, estimate.eps)

    def refuse_without_signal(self, prediction: str) -> None:
        """Refuse to predict the noise where the largest time is nothing but noise.

        Raises:
            UserError: such a pair.
        """
        if prediction == "eps" and self.alpha(torch.tensor(self.max_time)) <= 0:
            raise UserError(
                f"{type(self).__name__} starts from pure noise, and there a network that predicts the noise (eps) "
                "says nothing about the image.",
                'Choose the prediction "v" or "x0".',
            )


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Return values () or (B,) in a shape that multiplies images (B, C, H, W) and leaves their type alone."""
    # A single value stays where it is: it multiplies as a number, on any device, without a copy.
    return values if values.ndim == 0 else values.to(like)[:, None, None, None]
