"""The levels of a network, each twice the size of the previous one."""

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

_BASE = 4  # shorter side of the smallest level


def pyramid(name: str, spec: ImageSpec, channel_base: int, channel_max: int) -> tuple[tuple[int, int], list[int]]:
    """Return height and width of the smallest level, and the channels of each level, smallest first.

    Args:
        name: name of the model, for error messages.
        spec: format of the images.
        channel_base: a level whose shorter side is R has channel_base / R channels.
        channel_max: maximum number of channels of a level.

    Raises:
        UserError: the size cannot be reached by doubling, or a level would have no channels.
    """
    shorter = min(spec.height, spec.width)
    factor = shorter // _BASE
    if shorter < 16 or shorter & (shorter - 1) or max(spec.height, spec.width) % factor:
        raise UserError(
            f"{name} doubles images whose shorter side is {_BASE}, but the data is {spec}.",
            "Choose a shorter side of 16, 32, 64, ... and a longer one that is a multiple of a quarter of it.",
        )
    widths = [min(channel_max, channel_base // (_BASE << level)) for level in range(factor.bit_length())]
    if widths[-1] < 1:
        raise UserError(
            f"model.channel_base is {channel_base}, which leaves no channels for {spec}.",
            f"Give at least {shorter}, better thirty times that.",
        )
    return (spec.height // factor, spec.width // factor), widths
