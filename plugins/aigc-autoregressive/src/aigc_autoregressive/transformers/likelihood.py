"""Log-probabilities of tokens."""

import torch
from torch import Tensor
from torch.nn import functional


def token_log_prob(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability of each token in nats, (B, N), computed in float32 at least.

    The sum over an image is the exact log-likelihood of its tokens.

    Args:
        logits: (B, N, K).
        tokens: int64 (B, N).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
    return -losses.view_as(tokens)
