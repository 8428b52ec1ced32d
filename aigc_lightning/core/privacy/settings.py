"""The settings of training with differential privacy."""

from dataclasses import dataclass

from aigc_lightning.errors import UserError


@dataclass(frozen=True)
class Privacy:
    """A guarantee of (epsilon, delta) differential privacy for each training sample; off by default.

    Args:
        epsilon: the largest epsilon that the run may spend; None trains without a guarantee.
        delta: probability with which the guarantee may fail; choose it well below 1 / number of samples.
        clip: largest norm of the gradient of one sample; 1 by default.

    Raises:
        UserError: a value is out of range, or acts on nothing.
    """

    epsilon: float | None = None
    delta: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.epsilon is None:
            for name in ("delta", "clip"):
                if getattr(self, name) is not None:
                    raise UserError(f"privacy.{name} is given without privacy.epsilon.", "Add --privacy.epsilon 8.")
            return
        if not 0 < self.epsilon <= 100:
            raise UserError(f"privacy.epsilon is {self.epsilon}.", "Give a number above 0, at most 100.")
        if self.delta is None:
            raise UserError("privacy.epsilon is given without privacy.delta.", "Add --privacy.delta 1e-5.")
        if not 0 < self.delta < 1:
            raise UserError(f"privacy.delta is {self.delta}.", "Give a number between 0 and 1, such as 1e-5.")
        if self.clip is not None and not 0 < self.clip < float("inf"):
            raise UserError(f"privacy.clip is {self.clip}.", "Give a positive number.")

    @property
    def norm(self) -> float:
        """The largest norm of the gradient of one sample."""
        return 1.0 if self.clip is None else self.clip
