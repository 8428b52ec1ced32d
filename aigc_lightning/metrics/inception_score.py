"""Inception Score: how confident a classifier is about each image, and how diverse its predictions are.

Paper: Salimans et al., Improved Techniques for Training GANs, NeurIPS 2016, section 4.
Shapes: N samples, K classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the parts of the sample."""

    mean: float
    std: float


def inception_score(logits: Tensor, splits: int = 10, seed: int = 0) -> InceptionScore:
    """Return exp(E KL(p(y|x) || p(y))), from 1 to K, over equal parts of the sample in random order.

    Args:
        logits: float (N, K).
        splits: number of parts.
        seed: of the order.

    Raises:
        UserError: fewer samples than parts.
    """
    if len(logits) < splits:
        raise UserError(f"An Inception Score in {splits} parts needs as many images, not {len(logits)}.", "Take more.")
    shuffled = logits[keyed.permutation(len(logits), seed)].double()
    scores = torch.stack([_score(part) for part in shuffled.tensor_split(splits)])
    return InceptionScore(scores.mean().item(), scores.std(correction=0).item())


def _score(logits: Tensor) -> Tensor:
    log_prob = logits.log_softmax(dim=1)
    prob = log_prob.exp()
    divergence = (prob * (log_prob - prob.mean(dim=0).log())).nan_to_num(nan=0.0).sum(dim=1)  # 0 log 0 is 0
    return divergence.mean().exp()
