"""Parts of adversarial training: a player's update, averages, several processes, gradients that are not finite."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
