"""aigc_lightning: train, judge and use image-generation and image-editing models.

Nothing heavy is imported here, so that `aigc --help` and the listings answer at once. The public names are those of
`__init__.pyi`, in this package and in those of its packages that have one; they load on first use.
"""

import lazy_loader

from aigc_lightning import moved

__version__ = "0.1.0"
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_names, "__version__"]

moved.install()
