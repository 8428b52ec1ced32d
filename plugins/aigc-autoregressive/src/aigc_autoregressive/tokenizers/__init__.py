"""Images as tokens and back."""

from aigc_autoregressive.tokenizers.codebook import BatchShare, Codebook
from aigc_autoregressive.tokenizers.finite_scalar import FiniteScalarQuantizer
from aigc_autoregressive.tokenizers.multi_scale import MultiScaleQuantizer
from aigc_autoregressive.tokenizers.quantizer import Quantized, Quantizer
from aigc_autoregressive.tokenizers.vector import VectorQuantizer
from aigc_autoregressive.tokenizers.vqgan import VQGAN

#: Quantizers by the name that a config gives.
QUANTIZERS: dict[str, type[Quantizer]] = {
    "vq": VectorQuantizer,
    "fsq": FiniteScalarQuantizer,
    "multi_scale": MultiScaleQuantizer,
}

__all__ = [
    "QUANTIZERS",
    "VQGAN",
    "BatchShare",
    "Codebook",
    "FiniteScalarQuantizer",
    "MultiScaleQuantizer",
    "Quantized",
    "Quantizer",
    "VectorQuantizer",
]
