"""Which token is drawn from its logits: guidance, temperature, top-k, top-p.

Shapes: B batch, K codes; `...` stands for (B,) or (B, N).
"""

from dataclasses import dataclass

import torch
from aigc_lightning.errors import UserError
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """How tokens are drawn.

    Args:
        temperature: divides the logits: 1 draws from the model's probabilities, less draws likelier tokens, 0 the
            likeliest.
        top_k: only this many of the likeliest tokens are drawn; 0 for all.
        top_p: only the likeliest tokens are drawn, as many as it takes to reach this probability; 1 for all.

    Raises:
        UserError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.temperature < 0:
            raise UserError(
                f"temperature is {self.temperature}.", "Give 0 or more; 1 leaves probabilities as they are."
            )
        if self.top_k < 0:
            raise UserError(f"top_k is {self.top_k}.", "Give a number of tokens, or 0 for all.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}.", "Give a probability above 0 and up to 1, which leaves none out.")

    def draw(self, logits: Tensor, gumbel: Tensor) -> Tensor:
        """Return tokens, int64 (...).

        Args:
            logits: (..., K).
            gumbel: standard Gumbel noise, (..., K); equal noise draws equal tokens.
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        return (self.filtered(logits) + gumbel).argmax(-1)

    def filtered(self, logits: Tensor) -> Tensor:
        """Return logits after temperature, top-k and top-p, in this order; (..., K), -inf for what is left out."""
        logits = logits / self.temperature
        if 0 < self.top_k < logits.shape[-1]:
            smallest = logits.topk(self.top_k).values[..., -1:]
            logits = logits.masked_fill(logits < smallest, -torch.inf)
        if self.top_p < 1:
            ordered, order = logits.sort(dim=-1, descending=True)
            shares = ordered.softmax(-1)
            before = shares.cumsum(-1) - shares  # 0 for the likeliest, which stays whatever top_p is
            dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= self.top_p)
            logits = logits.masked_fill(dropped, -torch.inf)
        return logits


#: By the model's probabilities.
PLAIN = Choice()


def guide(logits: Tensor, guidance: float) -> Tensor:
    """Return guided logits (B, ...) of those with condition and, in a second half, those without, (2B, ...).

    Args:
        logits: (2B, ...).
        guidance: w in u + w (c - u): 1 leaves the logits with condition as they are, more follows it more closely.
    """
    conditional, unconditional = logits.chunk(2)
    return torch.lerp(unconditional, conditional, guidance)
