"""EDM: noise of any standard deviation, and a network whose input and output are scaled to a variance of 1.

Paper: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS 2022,
https://arxiv.org/abs/2206.00364 (table 1, last column)
Departs from the paper: sigma_data is measured on the data (`standard_deviation`), where the paper has 0.5 for all.
"""

from collections.abc import Iterable
from math import sqrt
from typing import ClassVar

from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.processes.base import Mix, Process


class EDM(Process):
    """x_sigma = x0 + sigma eps: the time is the noise's standard deviation sigma.

    The denoiser of equation 7, c_skip x + c_out F(c_in x), is a network F that predicts
    (sigma / sigma_data x0 - sigma_data eps) / sqrt(sigma^2 + sigma_data^2). Its mean squared error is the paper's loss
    with the weights lambda(sigma) of table 1.

    Args:
        sigma_data: standard deviation of the data.
        sigma_min: the smallest noise that a sampler meets before its last step.
        sigma_max: the noise that a sampler starts from.
        rho: exponent of the sampler's times (equation 5).

    Raises:
        UserError: numbers that are not in order.
    """

    alpha_slope: ClassVar[float] = 0.0

    def __init__(
        self, sigma_data: float = 0.5, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
    ) -> None:
        if not 0 < sigma_min < sigma_max or not sigma_data > 0 or not rho > 0:
            raise UserError(
                f"EDM cannot work with sigma_data {sigma_data}, sigma_min {sigma_min}, sigma_max {sigma_max} and rho "
                f"{rho}.",
                "All are above 0, and sigma_min is below sigma_max.",
            )
        self.sigma_data, self.rho = sigma_data, rho
        self.min_time, self.max_time = sigma_min, sigma_max

    def target(self, t: Tensor) -> Mix:
        """Return the mix that F predicts: ((1 - c_skip) x0 - c_skip sigma eps) / c_out."""
        length = self._length(t)
        return Mix(t / (self.sigma_data * length), -self.sigma_data / length)

    def input_scale(self, t: Tensor) -> Tensor:
        """Return c_in."""
        return 1 / self._length(t)

    def level(self, t: Tensor, s: Tensor) -> Tensor:
        """Return c_noise = ln(sigma) / 4, (..., 1)."""
        return t.log()[..., None] / 4

    def spread(self, share: Tensor) -> Tensor:
        """Return the times of equation 5, which are dense where there is little noise."""
        high, low = self.max_time ** (1 / self.rho), self.min_time ** (1 / self.rho)
        times: Tensor = (high + share * (low - high)) ** self.rho
        return times

    def uniform_times(self, numbers: Tensor) -> Tensor:
        """Refuse: noise of EDM has no natural end.

        Raises:
            UserError: always.
        """
        raise UserError(
            "EDM does not draw its training noise uniformly.", 'Choose the time sampling "log_normal" for EDM.'
        )

    def grid(self, steps: int) -> Tensor:
        """Return the times of equation 5, and 0 at the end, (steps + 1,)."""
        return self.grid_with_short_end(steps)

    def _length(self, t: Tensor) -> Tensor:
        return (t.square() + self.sigma_data**2).sqrt()


def standard_deviation(batches: Iterable[Tensor]) -> float:
    """Return the standard deviation of all numbers of some images: sigma_data.

    Batches are merged as in Chan, Golub and LeVeque, 1979, in float64, which loses nothing where the mean is large.

    Args:
        batches: images (B, C, H, W) in [-1, 1].

    Raises:
        UserError: no images, or images that are all of one grey.
    """
    count, mean, squares = 0, 0.0, 0.0
    for batch in batches:
        values = batch.double()
        batch_mean = values.mean().item()
        gap, total = batch_mean - mean, count + values.numel()
        squares += (values - batch_mean).square().sum().item() + gap**2 * count * values.numel() / total
        mean += gap * values.numel() / total
        count = total
    if squares == 0:
        raise UserError(
            "The standard deviation of the data is 0.",
            "Train on more than one image, and on images that are not plain.",
        )
    return sqrt(squares / count)
