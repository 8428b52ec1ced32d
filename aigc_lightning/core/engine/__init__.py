"""Parts of adversarial training: a player's update, several processes, non-finite gradients."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
