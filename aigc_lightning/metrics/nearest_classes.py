"""Classification by the nearest labelled embeddings.

Source: Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, section 3.4.
Departure from the source: an unweighted vote; a draw goes to the class of the nearest of its images.
Shapes: N images, D dimensions.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

_BLOCK = 1024  # queries at a time


def knn_accuracy(vectors: Tensor, labels: Tensor, k: int = 5) -> float:
    """Return the share of images that have the class of most of their k nearest others, by cosine similarity.

    Each image is left out of its own neighbours.

    Args:
        vectors: (N, D), of any length; at least two.
        labels: int64 (N,).
        k: number of neighbours; N - 1 if there are fewer.
    """
    units, right = normalize(vectors.float(), dim=1), 0
    _, classes = labels.unique(return_inverse=True)
    k = min(k, len(units) - 1)
    # Nearer neighbours add a little more, but k of them less than a vote.
    weights = 1 + torch.arange(k, 0, -1, device=units.device) / (k + 1) ** 2
    for rows in torch.arange(len(units), device=units.device).split(_BLOCK):
        similarities = units[rows] @ units.T
        similarities.scatter_(1, rows[:, None], -torch.inf)
        neighbours = classes[similarities.topk(k, dim=1).indices]
        votes = (one_hot(neighbours, int(classes.max()) + 1) * weights[:, None]).sum(dim=1)
        right += int((votes.argmax(dim=1) == classes[rows]).sum())
    return right / len(units)
