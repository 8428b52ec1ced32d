"""Transformers over tokens, and how pictures are drawn from them."""

from aigc_autoregressive.transformers.choice import Choice
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.image_gpt import ImageGPT
from aigc_autoregressive.transformers.maskgit import MaskGIT
from aigc_autoregressive.transformers.sampling import sample_image_gpt, sample_maskgit, sample_var
from aigc_autoregressive.transformers.var import VAR

__all__ = ["VAR", "Choice", "Condition", "ImageGPT", "MaskGIT", "sample_image_gpt", "sample_maskgit", "sample_var"]
