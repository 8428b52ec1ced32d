"""Whether a model of pixels is given the classes that it was made for."""

from aigc_lightning.errors import UserError
from torch import Tensor


def check_labels(labels: Tensor | None, num_classes: int) -> None:
    """Refuse labels that would be passed over in silence, and their absence where there are classes.

    Raises:
        UserError: labels for a model without classes, or none for a model with classes.
    """
    if labels is not None and num_classes == 0:
        raise UserError("The model was made without classes and cannot draw one.", "Leave the class out.")
    if labels is None and num_classes > 0:
        raise UserError(f"The model draws one of {num_classes} classes at a time.", "Say which class it is to draw.")
