"""What the transformers over tokens see in images: tokens, conditions, features and attention.

Shapes: B batch, C channels, H and W height and width in pixels, N tokens of an image. Images lie in [-1, 1].
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.words import byte_words
from aigc_lightning.errors import UserError
from torch import Tensor, nn

from aigc_autoregressive.models.token_maps import TokenMaps
from aigc_autoregressive.transformers.attention import Attention
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.conditioning import OPEN, Condition

ConditionName = Literal["none", "labels", "prompts"]


class TokenFeatures(ImageModel):
    """A transformer over the tokens of images, which `TokenModel` trains and draws from."""

    averaged_networks = ("network",)
    network: Conditioned
    maps: TokenMaps
    condition_name: ConditionName
    condition_dropout: float
    num_classes: int

    @abstractmethod
    def run(self, network: Conditioned, tokens: Tensor, condition: Condition) -> None:
        """Run the transformer on tokens (B, N) with a condition."""

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the middle block's features over all tokens, float (B, width), of images (B, C, H, W).

        Source: Chen et al., Image GPT, ICML 2020, section 3.2: features are best in the middle of the network.
        """
        blocks = self._blocks
        found: list[Tensor] = []
        handle = blocks[(len(blocks) - 1) // 2].register_forward_hook(
            lambda block, inputs, output: found.append(output)
        )
        try:
            self._look_at(images)
        finally:
            handle.remove()
        return found[0][:, -self.maps.num_tokens :].float().mean(1)

    @property
    def attention_grid(self) -> tuple[int, int]:
        """Rows and columns of the finest token map, in which the channels of a pixel stand side by side."""
        rows, columns = self.maps.grids[-1]
        return rows, columns * self.maps.channels

    def attention_maps(
        self, images: Tensor, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the attention weights of each block, float (B, heads, queries, keys), for images (B, C, H, W).

        The last tokens are those of the image, in their order; before them there is what stands for the condition, a
        text first.

        Args:
            images: in [-1, 1].
            labels: the class of each image, for models with classes; left open by default.
            prompts: the text of each image, for models with prompts; left open by default.

        Raises:
            UserError: a condition is given that the model was not trained with.
        """
        if labels is not None and not self.num_classes:
            raise UserError("This model was trained without classes.", "Leave labels out.")
        is_open = labels is None and prompts is None
        condition = OPEN if is_open else self._condition(labels, prompts, 1.0)
        attentions = [part for block in self._blocks for part in block.modules() if isinstance(part, Attention)]
        for attention in attentions:
            attention.seen = []
        try:
            self._look_at(images, condition)
            return {f"block_{place}": (part.seen or [])[0].float() for place, part in enumerate(attentions)}
        finally:
            for attention in attentions:
                attention.seen = None

    def word_keys(self, prompt: str) -> list[tuple[str, range]]:
        """Return the words of a prompt, each with the numbers of its bytes in the keys of `attention_maps`."""
        return byte_words(prompt, first=1)  # after the token with which a text starts

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens of images (B, C, H, W), int64 (B, N).

        Raises:
            UserError: the images differ in size from those of training.
        """
        if images.shape[1:] != torch.Size(self.spec.shape):
            raise UserError(
                f"This model was trained on images of {self.spec}, but got {images.shape[-2]}x{images.shape[-1]}.",
                "Resize them first.",
            )
        return self.maps.tokens(images.to(self.device))

    @property
    def has_guidance(self) -> bool:
        """Whether it is trained with and without condition."""
        return self.condition_name != "none" and self.condition_dropout > 0

    @property
    def _averaged(self) -> Conditioned:
        network: Any = self.averaged("network")
        return network  # type: ignore[no-any-return]

    @property
    def _transformer(self) -> Any:
        return self._averaged.transformer

    @property
    def _blocks(self) -> nn.ModuleList:
        blocks: nn.ModuleList = self._transformer.blocks
        return blocks

    def _look_at(self, images: Tensor, condition: Condition = OPEN) -> None:
        with self.inference():
            self.run(self._averaged, self.tokens(images), condition)

    def _condition(self, labels: Sequence[int] | None, prompts: Sequence[str] | None, guidance: float) -> Condition:
        """Return what is asked for, checked; without labels and prompts it is left open."""
        if prompts is not None and self.condition_name != "prompts":
            raise UserError("This model was trained without prompts.", "Leave prompts out.")
        is_open = labels is None and prompts is None
        if guidance != 1 and not self.has_guidance:
            raise UserError(
                "This model has no guidance: it was trained without classes and prompts, or never without them.",
                "Leave guidance out, or train with model.conditions and model.condition_dropout.",
            )
        if guidance != 1 and is_open:
            raise UserError(f"guidance is {guidance}, but there is nothing for it to strengthen.", "Leave it out.")
        if is_open and self.condition_name != "none" and not self.condition_dropout:
            raise UserError(f"This model was never trained without {self.condition_name}.", "Give them.")
        if is_open:
            return OPEN
        numbers = None if labels is None else torch.tensor(list(labels), device=self.device)
        with self.inference():
            return self._averaged.condition(numbers, prompts)
