"""A tokenizer: encoder, quantizer and decoder.

Paper: Esser et al., Taming Transformers for High-Resolution Image Synthesis, CVPR 2021,
https://arxiv.org/abs/2012.09841
Departs from the paper: in nothing; the quantizer is one of several.
Shapes: B batch, C image channels, H and W height and width in pixels, h and w height and width of the latents, N tokens
of an image. Images lie in [-1, 1].
"""

from collections.abc import Sequence

from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_autoregressive.tokenizers.autoencoder import Decoder, Encoder
from aigc_autoregressive.tokenizers.quantizer import Quantized, Quantizer


class VQGAN(nn.Module):
    """Images to tokens and back.

    Args:
        channels: C.
        quantizer: between encoder and decoder.
        latent_channels: of encoder and decoder; 1x1 convolutions change them to those of the quantizer.
        width: see `Encoder`.
        multipliers: see `Encoder`.
        num_blocks: see `Encoder`.
        attention_levels: see `Encoder`.
        dropout: see `Encoder`.
    """

    def __init__(
        self,
        channels: int,
        quantizer: Quantizer,
        latent_channels: int = 256,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        num_blocks: int = 2,
        attention_levels: Sequence[int] = (4,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.factor = 2 ** (len(multipliers) - 1)
        self.encoder = Encoder(channels, latent_channels, width, multipliers, num_blocks, attention_levels, dropout)
        self.before = nn.Conv2d(latent_channels, quantizer.width, 1)
        self.quantizer = quantizer
        self.after = nn.Conv2d(quantizer.width, latent_channels, 1)
        self.decoder = Decoder(channels, latent_channels, width, multipliers, num_blocks, attention_levels, dropout)

    @property
    def last_layer(self) -> Tensor:
        """Weights before the image, at which the gradients of several losses can be compared."""
        return self.decoder.output.weight

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Return h and w for images of a size in pixels.

        Raises:
            UserError: the size is no multiple of the factor between pixels and latents.
        """
        if height % self.factor or width % self.factor:
            raise UserError(
                f"The tokenizer cannot take images of {height}x{width} pixels.",
                f"Choose a height and a width that are multiples of {self.factor}, or fewer levels.",
            )
        return height // self.factor, width // self.factor

    def latents(self, images: Tensor) -> Tensor:
        """Return what is quantized, (B, Z, h, w), of images (B, C, H, W)."""
        self.latent_size(images.shape[2], images.shape[3])
        latents: Tensor = self.before(self.encoder(images))
        return latents

    def encode(self, images: Tensor) -> Quantized:
        """Return tokens and quantized latents of images (B, C, H, W)."""
        quantized: Quantized = self.quantizer(self.latents(images))
        return quantized

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (B, C, H, W) of quantized latents (B, Z, h, w), not clipped to [-1, 1]."""
        images: Tensor = self.decoder(self.after(latents))
        return images

    def decode_tokens(self, indices: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images of tokens (B, N), given h and w."""
        return self.decode(self.quantizer.decode(indices, size))

    def forward(self, images: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructed images (B, C, H, W), not clipped, and what was quantized on the way."""
        quantized = self.encode(images)
        return self.decode(quantized.latents), quantized
