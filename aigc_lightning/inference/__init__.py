"""What trained models are used for: samples, edits and walks, for commands, plugins and notebooks alike."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
