"""A transformer over tokens together with what turns classes and texts into its condition."""

from collections.abc import Sequence

from aigc_lightning.networks.byte_encoder import PADDING, ByteEncoder
from torch import Tensor, nn

from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.word_vectors import WordVectors, numbers_of


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
        if texts is None or self.text is None:
            return Condition(labels=labels, dropped=dropped)
        device = self.text.positions.device
        return self.condition_of_tokens(
            self.text.tokenize(texts).to(device), numbers_of(texts).to(device), labels, dropped
        )

    def condition_of_tokens(
        self, tokens: Tensor, words: Tensor, labels: Tensor | None = None, dropped: Tensor | None = None
    ) -> Condition:
        """Return the condition of texts that are given as numbers.

        Args:
            tokens: of the texts, int64 (B, L), as `ByteEncoder.tokenize` returns them.
            words: of the texts, int64 (B, n), as `numbers_of` returns them.
            labels: classes, int64 (B,); None leaves them open.
            dropped: samples that are without condition all the same, bool (B,).
        """
        assert self.text is not None and self.words is not None
        encoded = self.text(tokens)
        empty = (tokens[:, 1:] == PADDING).all(dim=1)
        dropped = empty if dropped is None else dropped | empty
        return Condition(labels, encoded.tokens, encoded.mask, dropped, self.words(words))
