"""Repeated searches among very many embeddings: 8-bit codes find candidates, which are ranked exactly.

One query is a matrix product that reads all embeddings once, and so takes as long as memory takes to deliver them.
Codes are a quarter as long. Nothing has to be learned or linked in advance, as the graphs and clusters of other methods
are: a million codes are made in a second. Shapes: N images, D dimensions.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

_CANDIDATES = 256  # ranked exactly, at least; codes are wrong by less than 0.01, and fewer embeddings are as close
_PER_RESULT = 4  # candidates for each result where many are asked for
_AT_ONCE = 10_000  # embeddings that are coded together
_MULTIPLE = 32  # of the dimensions, for the product's vector instructions


class CodedVectors:
    """Embeddings with codes of 8 bits, for many searches.

    Args:
        vectors: float32 (N, D), of any length.
    """

    def __init__(self, vectors: Tensor) -> None:
        self._vectors = normalize(vectors, dim=1)
        found = [_codes(part) for part in self._vectors.split(_AT_ONCE)]
        self._codes, self._scales = (torch.cat(parts) for parts in zip(*found, strict=True))

    def search(self, query: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """Return the most similar embeddings: cosine similarities (k,), highest first, and their rows, int64 (k,).

        Args:
            query: (D,), of any length.
            num: k; at most N are returned.
        """
        unit = normalize(query[None].float(), dim=1)
        # the product of torch's own int8 linear layers, and the only one that reads 8-bit weights as they are
        rough = torch._weight_int8pack_mm(_padded(unit).bfloat16(), self._codes, self._scales)[0]
        rows = rough.topk(min(max(_CANDIDATES, _PER_RESULT * num), len(rough)), sorted=False).indices
        best = (self._vectors[rows] @ unit[0]).topk(min(num, len(rows)))
        return best.values, rows[best.indices]


def _codes(units: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codes of embeddings, int8 with padded dimensions, and the value of a unit in each, bfloat16 (N,)."""
    scales = (units.abs().amax(1) / 127).clamp_min(torch.finfo(torch.bfloat16).tiny).bfloat16()
    codes = (units / scales[:, None].float()).round().clamp(-127, 127).to(torch.int8)
    return _padded(codes), scales


def _padded(rows: Tensor) -> Tensor:
    return pad(rows, (0, -rows.shape[1] % _MULTIPLE))
