"""Samplers by name: ways from noise to images."""

from typing import Literal, get_args

from aigc_lightning.errors import UserError

from aigc_diffusion.checks import check_choice
from aigc_diffusion.denoiser import Denoise
from aigc_diffusion.processes import Process
from aigc_diffusion.samplers.base import Draw, Progress, Sampler, keyed_noise, start
from aigc_diffusion.samplers.ddim import DDIM
from aigc_diffusion.samplers.dpm import DPMSolver2M
from aigc_diffusion.samplers.ode import Euler, Heun, encode

__all__ = [
    "DDIM",
    "DPMSolver2M",
    "Draw",
    "Euler",
    "Heun",
    "Progress",
    "Sampler",
    "SamplerName",
    "encode",
    "keyed_noise",
    "make_sampler",
    "start",
]

SamplerName = Literal["euler", "heun", "dpmpp_2m", "ddim", "ancestral"]


def make_sampler(
    name: SamplerName, process: Process, denoise: Denoise, draw: Draw | None = None, eta: float = 0.0
) -> Sampler:
    """Return a sampler by its name.

    Args:
        name: "euler", "heun", "dpmpp_2m", "ddim" or "ancestral", which is "ddim" with eta 1.
        process: of the network.
        denoise: the network's estimates, such as a `Denoiser`.
        draw: fresh noise, such as `keyed_noise`.
        eta: share of fresh noise of "ddim".

    Raises:
        UserError: a name that is unknown, or an eta for a sampler that has none.
    """
    check_choice("The sampler", name, get_args(SamplerName))
    if name == "ddim":
        return DDIM(process, denoise, draw, eta)
    if eta != 0:
        raise UserError(f"The sampler {name!r} has no eta.", 'Choose the sampler "ddim", or leave eta out.')
    if name == "ancestral":
        return DDIM(process, denoise, draw, eta=1.0)
    return {"euler": Euler, "heun": Heun, "dpmpp_2m": DPMSolver2M}[name](process, denoise)
