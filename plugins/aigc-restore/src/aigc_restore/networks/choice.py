"""Networks for super-resolution by name."""

from collections.abc import Callable
from typing import Any, Literal, cast

from aigc_lightning.core.resampling import enlarged
from aigc_lightning.errors import UserError, did_you_mean
from torch import Tensor, nn

from aigc_restore.networks.edsr import EDSR
from aigc_restore.networks.rcan import RCAN
from aigc_restore.networks.rrdb import RRDB
from aigc_restore.networks.swinir import SwinIR

NetworkName = Literal["edsr", "rrdb", "rcan", "swinir"]
NETWORKS: dict[str, Callable[..., nn.Module]] = {"edsr": EDSR, "rrdb": RRDB, "rcan": RCAN, "swinir": SwinIR}
_MOST = 1000  # of any number among a network's options
_NUMBERS = ("width", "num_blocks", "num_groups", "growth", "reduction", "side", "depths", "num_heads")


class Enlarger(nn.Module):
    """A network, or the sum of a network and bicubic enlargement, of which the network learns the difference.

    Paper of the sum: Kim et al., Accurate Image Super-Resolution Using Very Deep Convolutional Networks, CVPR 2016,
    https://arxiv.org/abs/1511.04587. Its training starts as bicubic enlargement.

    Args:
        network: maps images (B, C, H, W) to (B, C, S H, S W); its last convolution is called `last`.
        scale: S.
        residual: whether to add bicubic enlargement.
    """

    def __init__(self, network: nn.Module, scale: int, residual: bool) -> None:
        super().__init__()
        self.network, self.scale, self.residual = network, scale, residual
        if residual:
            last = cast(nn.Conv2d, network.last)
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return enlarged images (B, C, S H, S W), unclipped."""
        output: Tensor = self.network(images)
        return output + enlarged(images.float(), self.scale) if self.residual else output


def make_network(name: str, channels: int, scale: int, options: dict[str, Any]) -> nn.Module:
    """Return a network by name.

    Args:
        name: a key of `NETWORKS`.
        channels: of the images.
        scale: S.
        options: arguments of the network, such as {"width": 48}.

    Raises:
        UserError: there is no such network, or it does not take these options.
    """
    if name not in NETWORKS:
        raise UserError(f"There is no network {name!r}.", did_you_mean(name, NETWORKS) or "See model.network.")
    for option, value in options.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if option in _NUMBERS and not all(isinstance(n, int) and 1 <= n <= _MOST for n in numbers):
            raise UserError(
                f"model.network_options.{option} is {value}.", f"Give a whole number, or several, from 1 to {_MOST}."
            )
    if name == "swinir":
        _check_swinir(options)
    try:
        return NETWORKS[name](channels, scale, **options)
    except (TypeError, ValueError, KeyError) as error:
        what = f"The network {name} cannot be built with {options}: {error}."
        raise UserError(what, "`aigc plugins show sr` describes model.network_options.") from error


def _check_swinir(options: dict[str, Any]) -> None:
    depths, heads = (list(options.get(key, [6] * 6)) for key in ("depths", "num_heads"))
    width, side = options.get("width", 180), options.get("side", 8)
    if len(depths) != len(heads) or any(width % number for number in heads):
        what = f"model.network_options has depths of {depths}, heads of {heads} and a width of {width}."
        raise UserError(what, "Give one number of heads for each depth, and a width that is a multiple of each.")
    if side % 2:
        raise UserError(f"model.network_options.side is {side}.", "Give an even number, such as 8.")
    if options.get("upsampler", "classical") not in ("classical", "direct"):
        what = f"model.network_options.upsampler is {options['upsampler']!r}."
        raise UserError(what, 'Give "classical" or "direct".')
