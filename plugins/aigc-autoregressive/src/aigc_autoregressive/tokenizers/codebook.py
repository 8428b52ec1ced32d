"""A learnt codebook: nearest codes, moving averages, revival of dead codes, and a start by k-means.

Papers: van den Oord et al., Neural Discrete Representation Learning, NIPS 2017, https://arxiv.org/abs/1711.00937,
appendix A.1 (averages); Dhariwal et al., Jukebox, 2020, https://arxiv.org/abs/2005.00341, section 3.1 (revival)
Departs from the papers: averages are of shares of a batch instead of counts, so batches of any size weigh the same, and
what counts as dead does not depend on the batch size.
Shapes: B batch, N tokens of an image, K codes, Z latent channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError
from torch import Tensor, nn

_ROWS_AT_ONCE = 8192  # vectors whose distances to all codes are held at a time


def alone(values: Tensor) -> Tensor:
    """Return the values: their sum over the only process."""
    return values


@dataclass(frozen=True)
class BatchShare:
    """Which part of a batch a process has, and how it learns of the others'.

    Args:
        key: of the step's random choices, such as (seed, step); equal in all processes.
        first: samples of the batch that lie before the process's own.
        total: samples of all processes; None where there is one process.
        sum_over_processes: returns the sums of each number over all processes, called by all of them together.
    """

    key: tuple[int, ...] = (0,)
    first: int = 0
    total: int | None = None
    sum_over_processes: Callable[[Tensor], Tensor] = alone


#: The share of the only process.
WHOLE = BatchShare()


class Codebook(nn.Module):
    """K vectors, learnt by moving averages or by a loss.

    Args:
        num_codes: K.
        width: Z.
        learnt_by: "ema": a code follows the mean of the vectors that chose it. "loss": codes are parameters.
        decay: of the moving averages, for each step.
        revive_below: a code is dead when it is chosen less often than this share of the mean of all codes.
    """

    codes: Tensor
    frequencies: Tensor
    sums: Tensor

    def __init__(
        self,
        num_codes: int,
        width: int,
        learnt_by: Literal["ema", "loss"] = "ema",
        decay: float = 0.99,
        revive_below: float = 0.1,
    ) -> None:
        super().__init__()
        self.num_codes, self.learnt_by, self.decay, self.revive_below = num_codes, learnt_by, decay, revive_below
        codes = torch.empty(num_codes, width).uniform_(-1 / num_codes, 1 / num_codes)
        if learnt_by == "loss":
            self.codes = nn.Parameter(codes)
        else:
            self.register_buffer("codes", codes)
            self.register_buffer("sums", codes / num_codes)  # average over all vectors of what chose the code
        self.register_buffer("frequencies", torch.full((num_codes,), 1 / num_codes))

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the number of the nearest code of each vector, int64 (...), for vectors (..., Z)."""
        flat = vectors.reshape(-1, vectors.shape[-1]).to(self.codes.dtype)
        lengths = self.codes.square().sum(1)
        # An exported program would always have as many parts as when it was traced.
        rows = (flat,) if torch.compiler.is_exporting() else torch.split(flat, _ROWS_AT_ONCE)
        with torch.autocast(vectors.device.type, enabled=False):
            parts = [torch.addmm(lengths, part, self.codes.T, alpha=-2).argmin(1) for part in rows]
        return torch.cat(parts).view(vectors.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Return the codes of tokens (...), (..., Z)."""
        return nn.functional.embedding(indices, self.codes)

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor, share: BatchShare = WHOLE) -> None:
        """Count who chose which code in a training step; codes that are learnt by averages move.

        In evaluation mode nothing changes.

        Args:
            vectors: that were quantized, (B, N, Z).
            indices: the codes that they chose, (B, N).
            share: of the batch.
        """
        if not self.training:
            return
        ones = vectors.new_ones(indices.numel(), 1, dtype=self.codes.dtype)
        rows = torch.cat([ones, vectors.flatten(0, 1).to(ones)], dim=1)
        found = rows.new_zeros(self.num_codes, rows.shape[1]).index_add_(0, indices.flatten(), rows)
        found = share.sum_over_processes(found) / self._num_vectors(indices, share)
        self.frequencies.lerp_(found[:, 0], 1 - self.decay)
        if self.learnt_by == "ema":
            self.sums.lerp_(found[:, 1:], 1 - self.decay)
            # Code and frequency shrink alike while nobody chooses a code; it stays where it is, down to underflow.
            safe = self.frequencies > torch.finfo(self.frequencies.dtype).tiny * 1e6
            means = self.sums / self.frequencies.where(safe, torch.ones_like(self.frequencies))[:, None]
            self.codes.copy_(torch.where(safe[:, None], means, self.codes))

    @torch.no_grad()
    def revive(self, vectors: Tensor, share: BatchShare = WHOLE) -> Tensor:
        """Put dead codes on vectors of the batch, and forget who chose them before.

        In evaluation mode nothing changes. Each vector revives one code at most.

        Args:
            vectors: that were quantized, (B, N, Z).
            share: of the batch.

        Returns:
            The numbers of the revived codes, int64; state that an optimizer keeps for them is out of date.
        """
        if not self.training:
            return torch.empty(0, dtype=torch.int64)
        batch, tokens, width = vectors.shape
        dead = (self.frequencies < self.revive_below / self.num_codes).nonzero().flatten()
        chosen = keyed.permutation(self._num_vectors(vectors[..., 0], share), *share.key)[: len(dead)].to(dead.device)
        dead = dead[: len(chosen)]
        if len(dead) > 0:
            places = chosen - share.first * tokens
            own = (places >= 0) & (places < batch * tokens)
            found = self.codes.new_zeros(len(dead), width)
            found[own] = vectors.flatten(0, 1)[places[own]].to(found)
            self._place(dead, share.sum_over_processes(found))
        return dead

    @torch.no_grad()
    def start_from(self, vectors: Tensor, key: tuple[int, ...] = (0,), iterations: int = 20) -> None:
        """Start from the centres of vectors (M, Z), found by k-means.

        Raises:
            UserError: there are fewer vectors than codes.
        """
        self._place(slice(None), kmeans(vectors, self.num_codes, key, iterations))

    def _place(self, which: Tensor | slice, codes: Tensor) -> None:
        """Set codes, as if each had been chosen as often as the mean of all."""
        self.codes[which] = codes.to(self.codes)
        self.frequencies[which] = 1 / self.num_codes
        if self.learnt_by == "ema":
            self.sums[which] = codes.to(self.sums) / self.num_codes

    def _num_vectors(self, indices: Tensor, share: BatchShare) -> int:
        return (indices.shape[0] if share.total is None else share.total) * indices.shape[1]


def kmeans(vectors: Tensor, num_codes: int, key: tuple[int, ...] = (0,), iterations: int = 20) -> Tensor:
    """Return centres (K, Z) of vectors (M, Z) by Lloyd's algorithm; centres without vectors move to the farthest ones.

    Args:
        vectors: at least K.
        num_codes: K.
        key: of the random choice of the first centres.
        iterations: rounds of assigning and averaging.

    Raises:
        UserError: there are fewer vectors than codes.
    """
    if len(vectors) < num_codes:
        raise UserError(
            f"A codebook of {num_codes} codes cannot start from {len(vectors)} vectors.",
            "Give more training images, or fewer codes.",
        )
    vectors = vectors.detach().float()
    centres = vectors[keyed.permutation(len(vectors), *key)[:num_codes].to(vectors.device)]
    for _ in range(iterations):
        parts = [torch.cdist(part, centres).min(dim=1) for part in torch.split(vectors, _ROWS_AT_ONCE)]
        distances = torch.cat([part.values for part in parts])
        nearest = torch.cat([part.indices for part in parts])
        counts = torch.bincount(nearest, minlength=num_codes)
        sums = torch.zeros_like(centres).index_add_(0, nearest, vectors)
        centres = sums / counts.clamp_min(1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        centres[empty] = vectors[distances.topk(len(empty)).indices]
    return centres
