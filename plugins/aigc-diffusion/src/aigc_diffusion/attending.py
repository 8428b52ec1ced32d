"""What the attention layers of a diffusion model look at while it denoises a given image.

Papers: Hertz et al., Prompt-to-Prompt, ICLR 2023, https://arxiv.org/abs/2208.01626 (section 3: cross-attention maps
place the words of a prompt in the image); Tang et al., What the DAAM, ACL 2023, https://arxiv.org/abs/2210.04885
Shapes: B batch, C channels, H and W height and width in pixels, N tokens of the image, L tokens of a text.
"""

from collections.abc import Sequence
from typing import Any

import torch
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.core.words import byte_words
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.guidance import Asked
from aigc_diffusion.inference import DiffusionInference
from aigc_diffusion.networks.attention import Attention


class DiffusionAttention(DiffusionInference):
    """A diffusion model that shows its attention: between places of the image, and from places to the text."""

    @property
    def attention_grid(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of the tokens of each block."""
        height, width = self._padded_size
        return {name: (height // side, width // side) for name, (_, side) in self._attentions().items()}

    @property
    def attention_extent(self) -> tuple[int, int]:
        """Height and width in pixels that the tokens cover, which is more than the image where that is padded."""
        (height, width), (_, rows, columns) = self._padded_size, self.state_shape
        return round(height * self.spec.height / rows), round(width * self.spec.width / columns)

    def attention_maps(
        self,
        images: Tensor,
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        noise: float = 0.5,
    ) -> dict[str, Tensor]:
        """Return the weights of each attention layer, float (B, heads, N, L + N), while noised images are denoised.

        The first keys are those of the text, if the model has prompts; padding has the weight 0. All images get the
        same noise. A model that translates or restores images is shown denoising its own results.

        Args:
            images: (B, C, H, W) in [-1, 1], of the spec's size.
            labels: the class of each image, for models with classes; none by default.
            prompts: the text of each image, for models with prompts; none by default.
            noise: share of the noise in what the network sees, between 0 and 1; (1 - noise) is that of the image.

        Raises:
            UserError: the noise is out of range, a condition is given that the model was not trained with, or one is
                missing that it was never trained without.
        """
        if not 0 < noise < 1:
            raise UserError(f"noise is {noise}.", "Give a number between 0 and 1.")
        if labels is None and prompts is None and self.condition_name != "none" and not self.condition_dropout:
            raise UserError(
                f"This diffusion model was never trained without {self.condition_name}.", "Give them for each image."
            )
        images = images.to(self.device)
        asked = self._asked([0] * len(images), labels, prompts, unless_given="none")
        if self.spec.task != "generation":
            asked, images = Asked(source=self.states(images)), self.edit(images)
        attentions = self._attentions()
        for attention, _ in attentions.values():
            attention.seen = []
        try:
            with self.inference():
                self._denoise(images, asked, noise)
            return {name: _text_first(attention) for name, (attention, _) in attentions.items()}
        finally:
            for attention, _ in attentions.values():
                attention.seen = None

    def word_keys(self, prompt: str) -> list[tuple[str, range]]:
        """Return the words of a prompt, each with the numbers of its bytes in the keys of `attention_maps`."""
        return byte_words(prompt, first=1)  # after the token with which a text starts

    def _denoise(self, images: Tensor, asked: Asked, noise: float) -> None:
        """Run the averaged network once on images (B, C, H, W) with a share of noise."""
        ratio = torch.tensor(noise / (1 - noise), dtype=torch.float64)
        time = self.process.time_of_ratio(ratio).clamp(self.process.min_time, self.process.max_time)
        states = self.states(images)
        eps = seeded_normal([0], *states.shape[1:]).to(states).expand_as(states)
        pair = self.process.pair(states, eps, time.expand(len(states)))
        self.predictor(asked)(pair.state, pair.level)

    def _attentions(self) -> dict[str, tuple[Attention, int]]:
        network: Any = self.averaged("network")
        found: dict[str, tuple[Attention, int]] = network.body.attentions()
        return found

    @property
    def _padded_size(self) -> tuple[int, int]:
        network: Any = self.network
        multiple: int = network.body.size_multiple
        height, width = (-(-side // multiple) * multiple for side in self.state_shape[1:])
        return height, width


def _text_first(attention: Attention) -> Tensor:
    """Return what a layer has seen, with the keys of the text before those of the image."""
    (weights,) = attention.seen or []
    places = weights.shape[2]
    return torch.cat([weights[..., places:], weights[..., :places]], dim=-1).float()
