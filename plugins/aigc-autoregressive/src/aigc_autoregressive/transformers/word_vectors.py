"""A vector for a whole text: the sum of learnt ones for its words and for its pairs of neighbouring words.

What a byte means depends on those around it, so a transformer over bytes says little before it has learnt to tell words
apart, and changes while it learns. A word's own vector means the same from the first step on, and a pair tells a large
red star from a large star that is red.
Papers: Joulin, Grave, Bojanowski, Mikolov, Bag of Tricks for Efficient Text Classification, EACL 2017,
https://arxiv.org/abs/1607.01759; Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009,
https://arxiv.org/abs/0902.2206.
Departs from the papers: the sum is divided by the square root of the number of words and pairs, so that its size does
not depend on the text's length.
Shapes: B batch, W width of the vectors, n words and pairs of the longest text.
"""

from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import torch
from aigc_lightning.core.words import byte_words
from torch import Tensor, nn

#: Rows of the table. Words that a checksum gives the same row share its vector.
NUM_ROWS = 4096


class WordVectors(nn.Module):
    """Vectors of texts in any language, with no vocabulary that would have to be known before.

    Args:
        width: W.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(NUM_ROWS, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, words: Tensor) -> Tensor:
        """Return the vectors (B, W) of texts, given by `numbers_of`; 0 for those without words."""
        present = words > 0
        vectors = self.table((words - 1).clamp_min(0)) * present.unsqueeze(-1)
        found: Tensor = vectors.sum(1) / present.sum(1, keepdim=True).clamp_min(1).sqrt()
        return found


def numbers_of(texts: Sequence[str]) -> Tensor:
    """Return one more than the rows of the words and pairs of texts, int64 (B, n), and 0 where a text has fewer."""
    numbers = [[row + 1 for row in rows_of(text)] for text in texts]
    longest = max(map(len, numbers), default=0)
    padded = [row + [0] * (longest - len(row)) for row in numbers]
    return torch.tensor(padded, dtype=torch.int64).view(len(texts), longest)


def rows_of(text: str) -> list[int]:
    """Return the rows of a text's words and then of its pairs of neighbours, upper and lower case being one."""
    words = [word for word, _ in byte_words(text.casefold())]
    return [crc32(part.encode()) % NUM_ROWS for part in (*words, *map(" ".join, pairwise(words)))]
