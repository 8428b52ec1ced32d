"""aigc_lightning: train, judge and use image-generation and image-editing models.

Nothing heavy is imported here, so that `aigc --help` and the listings answer at once; the names below load on use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aigc_lightning.core.adversarial import AdversarialModel as AdversarialModel
    from aigc_lightning.core.image_model import ImageModel as ImageModel
    from aigc_lightning.core.spec import ImageSpec as ImageSpec
    from aigc_lightning.data.base import ImageDataModule as ImageDataModule
    from aigc_lightning.errors import UserError as UserError

_HOMES = {
    "AdversarialModel": "aigc_lightning.core.adversarial",
    "ImageModel": "aigc_lightning.core.image_model",
    "ImageSpec": "aigc_lightning.core.spec",
    "ImageDataModule": "aigc_lightning.data.base",
    "UserError": "aigc_lightning.errors",
}
__all__ = ["AdversarialModel", "ImageDataModule", "ImageModel", "ImageSpec", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public class when it is first asked for."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
