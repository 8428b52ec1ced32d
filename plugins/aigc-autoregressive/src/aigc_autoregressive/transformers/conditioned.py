"""A transformer over tokens together with what turns classes and texts into its condition."""

from collections.abc import Sequence

import torch
from aigc_lightning.networks.byte_encoder import ByteEncoder
from torch import Tensor, nn

from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.word_vectors import WordVectors


class Conditioned(nn.Module):
    """A transformer and, for prompts, a text encoder and vectors of words that are trained with it.

    Args:
        transformer: `ImageGPT`, `MaskGIT` or `VAR`, whose context tokens are the text encoder's.
        text: None for a transformer without context.
        width: features of the transformer's tokens.
    """

    def __init__(self, transformer: nn.Module, text: ByteEncoder | None, width: int) -> None:
        super().__init__()
        self.transformer, self.text = transformer, text
        self.words = None if text is None else WordVectors(width)

    def condition(self, labels: Tensor | None, texts: Sequence[str] | None, dropped: Tensor | None = None) -> Condition:
        """Return the condition of a batch.

        Args:
            labels: classes, int64 (B,); None leaves them open.
            texts: B texts, of which empty ones leave it open; None for transformers without context.
            dropped: samples that are without condition all the same, bool (B,).
        """
        if texts is None or self.text is None or self.words is None:
            return Condition(labels=labels, dropped=dropped)
        encoded = self.text(self.text.tokenize(texts).to(self.text.positions.device))
        empty = torch.tensor([not text for text in texts], device=encoded.mask.device)
        dropped = empty if dropped is None else dropped | empty
        return Condition(labels, encoded.tokens, encoded.mask, dropped, self.words(texts))
