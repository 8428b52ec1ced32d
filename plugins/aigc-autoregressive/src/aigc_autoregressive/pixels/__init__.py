"""Models of an image's numbers, one after the other, with exact likelihoods."""

from aigc_autoregressive.pixels.pixelcnn import PixelCNN
from aigc_autoregressive.pixels.pixelrnn import PixelRNN
from aigc_autoregressive.pixels.sampling import sample_pixels

__all__ = ["PixelCNN", "PixelRNN", "sample_pixels"]
