"""Networks for inpainting by name."""

from collections.abc import Callable
from typing import Any, Literal, cast

from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_restore.inpainting.fourier import FourierNetwork
from aigc_restore.inpainting.gated import GatedNetwork
from aigc_restore.inpainting.partial import PartialUNet
from aigc_restore.inpainting.push_pull import push_pull
from aigc_restore.inpainting.spectral import spectral

NetworkName = Literal["partial", "gated", "fourier"]
FillingName = Literal["smooth", "spectral"]
FILLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"smooth": push_pull, "spectral": spectral}
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "partial": PartialUNet,
    "gated": GatedNetwork,
    "fourier": FourierNetwork,
}
_MOST = {"width": 1024, "num_blocks": 100, "num_levels": 8}


class Filler(nn.Module):
    """The sum of a filling and a network, which starts at 0.

    Args:
        network: maps images (B, C, H, W) and masks (B, 1, H, W) to images; its last convolution is called `last`.
        filling: a key of `FILLINGS`.
    """

    def __init__(self, network: nn.Module, filling: FillingName) -> None:
        super().__init__()
        self.network, self.filling = network, FILLINGS[filling]
        last = cast(nn.Conv2d, network.last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return filled images (B, C, H, W), unclipped; what was in the holes does not matter."""
        return self.corrected(self.filling(images.float(), masks.float()), masks)

    def corrected(self, filled: Tensor, masks: Tensor) -> Tensor:
        """Return images (B, C, H, W), unclipped, of images whose holes are filled without learning."""
        output: Tensor = self.network(filled.to(masks.dtype), masks)
        return filled + output


def make_filler(name: str, channels: int, options: dict[str, Any], filling: FillingName = "smooth") -> Filler:
    """Return a network by name.

    Args:
        name: a key of `NETWORKS`.
        channels: of the images.
        options: arguments of the network, such as {"width": 48}.
        filling: what the network learns the difference from.

    Raises:
        UserError: it does not take these options.
    """
    for option, value in options.items():
        most = _MOST.get(option, 0)
        if most and not (isinstance(value, int) and 1 <= value <= most):
            raise UserError(f"model.network_options.{option} is {value}.", f"Give a whole number from 1 to {most}.")
    try:
        return Filler(NETWORKS[name](channels, **options), filling)
    except TypeError as error:
        what = f"The network {name} cannot be built with {options}: {error}."
        raise UserError(what, "`aigc plugins show inpaint` describes model.network_options.") from error
