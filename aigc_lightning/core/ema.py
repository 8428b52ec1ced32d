"""Settings of the moving averages of a model's weights, and how fast they follow.

The power-function averages are those of T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion
Models", CVPR 2024, section 3.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from aigc_lightning.errors import UserError

#: Decay of the average where no setting says how fast it follows.
DEFAULT_DECAY = 0.999
#: A power-function average is narrower than this: its exponent is 0 there, and all steps weigh the same.
WIDEST = 1 / math.sqrt(12)


@dataclass(frozen=True)
class Ema:
    """Settings of the moving averages of a model's weights.

    Args:
        decay: fraction of the average that is kept at each optimizer step; 0 keeps no average; 0.999 if nothing else is
            given.
        half_life_images: in place of decay, number of training images after which a weight counts half in the average.
        relative_widths: in place of decay, widths of power-function averages relative to the length of the training,
            such as "0.05,0.10"; the first is the one that is used. Snapshots from which `aigc ema` makes the average of
            any other width are saved in the run's folder.
        snapshot_every: optimizer steps between two such snapshots.

    Raises:
        UserError: a value is out of range, or two settings exclude each other.
    """

    decay: float | None = None
    half_life_images: float | None = None
    relative_widths: str | None = None
    snapshot_every: int = 1000

    def __post_init__(self) -> None:
        chosen = [name for name in _ALTERNATIVES if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise UserError(
                f"{' and '.join(f'ema.{name}' for name in chosen)} are both given, and each sets the average's speed.",
                f"Set one to null, such as --ema.{chosen[0]} null.",
            )
        if not chosen:
            object.__setattr__(self, "decay", DEFAULT_DECAY)
        if self.decay is not None and not 0 <= self.decay < 1:
            raise UserError(f"ema.decay is {self.decay}.", "Give a number from 0 (no average) to below 1.")
        if self.half_life_images is not None and not 0 < self.half_life_images < math.inf:
            raise UserError(f"ema.half_life_images is {self.half_life_images}.", "Give a positive number of images.")
        if self.snapshot_every < 1:
            raise UserError(f"ema.snapshot_every is {self.snapshot_every}.", "Give at least 1.")
        if self.relative_widths is None and self.snapshot_every != _EVERY:
            raise UserError("ema.snapshot_every is given without ema.relative_widths.", "Give both or none.")
        if len({f"{width:.3f}" for width in self.widths}) < len(self.widths) or len(self.widths) > _MOST_WIDTHS:
            what = f"ema.relative_widths is {self.relative_widths[:80] if self.relative_widths else ''}."
            raise UserError(
                what, f"Give widths 0.001 apart, and at most {_MOST_WIDTHS}: each takes a copy of the weights."
            )

    @property
    def count(self) -> int:
        """Number of averages that are kept of each network."""
        return len(self.widths) if self.relative_widths is not None else int(self.decay != 0)

    @cached_property
    def widths(self) -> list[float]:
        """The relative widths of power-function averages; empty for other averages."""
        if self.relative_widths is None:
            return []
        try:
            widths = [float(part) for part in self.relative_widths.split(",")]
        except ValueError:
            raise UserError(
                f"ema.relative_widths is {self.relative_widths!r}.", 'Give numbers, such as "0.05,0.10".'
            ) from None
        for width in widths:
            check_width(width, "ema.relative_widths")
        return widths

    @cached_property
    def exponents(self) -> list[float]:
        """The exponents of power-function averages, in the order of the widths."""
        return [exponent_of(width) for width in self.widths]

    def kept(self, updates: int, images: int) -> list[float]:
        """Return the fraction of each average that the next update keeps.

        An exponential average starts with a smaller one, min(decay, (1 + n) / (10 + n)) after n updates, so that the
        random start is soon forgotten (the rule of TensorFlow's ExponentialMovingAverage). A power-function average
        needs none: its first update keeps nothing.

        Args:
            updates: n, the number of updates before this one.
            images: training images since the last update, over all processes.
        """
        if self.relative_widths is not None:
            return [(1 - 1 / (updates + 1)) ** (exponent + 1) for exponent in self.exponents]
        decay = self.decay if self.half_life_images is None else 0.5 ** (images / self.half_life_images)
        assert decay is not None
        return [min(decay, (1 + updates) / (10 + updates))] if self.count else []


_ALTERNATIVES = ("decay", "half_life_images", "relative_widths")
_EVERY = Ema.snapshot_every
_MOST_WIDTHS = 4


def check_width(width: float, name: str) -> None:
    """Check the relative width of a power-function average.

    Args:
        width: standard deviation of the average's weights over time, relative to the length of the training.
        name: of the option, for the message.

    Raises:
        UserError: it is out of range.
    """
    if not 0.001 <= width < WIDEST:
        raise UserError(f"{name} has {width}.", f"Give widths from 0.001 to below {WIDEST:.4f}, such as 0.05.")


def exponent_of(width: float) -> float:
    """Return the exponent gamma of the power-function average of a relative width, about 16.97 for 0.05.

    The weights grow with time as t ** gamma. Their relative standard deviation is
    sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)), which gives a cubic equation for gamma.

    Args:
        width: in (0, 1 / sqrt(12)).
    """
    inverse = width**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots.real.max())


def recorded_ema(record: Mapping[str, Any]) -> Ema:
    """Return the settings in a checkpoint's record; those that this version does not know are ignored.

    Raises:
        UserError: a value is out of range, or of another type.
    """
    made = record.get("ema")
    if made is None:  # written before models other than adversarial ones had averages
        old = record.get("engine", {})
        made = {"decay": old["ema_decay"]} if "ema_decay" in old else {}
    known = {item.name for item in fields(Ema)}
    try:
        return Ema(**{name: value for name, value in made.items() if name in known})
    except (AttributeError, TypeError) as error:
        raise UserError(f"The record of the averages is {made}.", "Give a file that `aigc fit` wrote.") from error
