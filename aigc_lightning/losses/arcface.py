"""Classification of embeddings by their angle to each class, with a margin.

Paper: Deng, Guo, Xue, Zafeiriou, ArcFace: Additive Angular Margin Loss for Deep Face Recognition, CVPR 2019,
https://arxiv.org/abs/1801.07698, equation 3.
Departures from the paper: beyond an angle of pi - margin, where cos(angle + margin) would rise again, the logit goes on
linearly, as in the authors' code.
Shapes: N embeddings, D dimensions, K classes.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def cosines(vectors: Tensor, centres: Tensor) -> Tensor:
    """Return the cosine of the angle between each embedding (N, D) and each class's centre (K, D), (N, K)."""
    return normalize(vectors.float(), dim=1) @ normalize(centres.float(), dim=1).T


def arcface(cosine: Tensor, labels: Tensor, scale: float = 30.0, margin: float = 0.5) -> Tensor:
    """Return the cross entropy with the margin added to the angle of the right class, a scalar.

    Args:
        cosine: (N, K), from `cosines`.
        labels: int64 (N,).
        scale: factor of all logits, above 0; the paper has 64.
        margin: in radians, from 0 to below pi.
    """
    right = cosine.gather(1, labels[:, None])
    sine = (1 - right.square()).clamp(min=1e-12).sqrt()
    shifted = right * math.cos(margin) - sine * math.sin(margin)  # cos(angle + margin)
    beyond = right <= math.cos(math.pi - margin)
    shifted = torch.where(beyond, right - margin * math.sin(margin), shifted)
    return cross_entropy(scale * cosine.scatter(1, labels[:, None], shifted), labels)
