"""Contrastive losses: embeddings of one class, one image, or an image and its text are drawn together, others apart.

Papers: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2 (L_out),
https://arxiv.org/abs/2004.11362; Chen, Kornblith, Norouzi, Hinton, A Simple Framework for Contrastive Learning of
Visual Representations, ICML 2020, equation 1 (NT-Xent of SimCLR), https://arxiv.org/abs/2002.05709; Radford et al.,
Learning Transferable Visual Models From Natural Language Supervision (CLIP), ICML 2021, figure 3,
https://arxiv.org/abs/2103.00020.
Departures from the papers: images with equal texts are no negatives of each other (Yang et al., UniCL, CVPR 2022,
equations 2 to 4, https://arxiv.org/abs/2204.03610).
Shapes: N embeddings, D dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize


def supervised_contrastive(vectors: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the mean over anchors of the mean negative log-probability of the others of their class, a scalar.

    Each embedding is an anchor, and the probabilities are a softmax of its cosine similarities to all others. Anchors
    without another embedding of their class are left out; without any, the loss is 0.

    Args:
        vectors: (N, D), of any length; usually two views of each image.
        labels: int64 (N,).
        temperature: by which similarities are divided, above 0.
    """
    units = normalize(vectors.float(), dim=1)
    own = torch.eye(len(units), dtype=torch.bool, device=units.device)
    log_probabilities = (units @ units.T / temperature).masked_fill(own, -torch.inf).log_softmax(dim=1)
    positive = (labels[:, None] == labels) & ~own
    counts = positive.sum(dim=1)
    # Not a product: the diagonal is minus infinity.
    per_anchor = -log_probabilities.masked_fill(~positive, 0).sum(dim=1) / counts.clamp(min=1)
    return per_anchor.sum() / (counts > 0).sum().clamp(min=1)


def simclr(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """Return NT-Xent: each view of an image is to be told from all other images of the batch by its other view.

    It is the supervised contrastive loss with each image as a class of its own.

    Args:
        first: (N, D), the first view of each image.
        second: (N, D), the second view.
        temperature: by which similarities are divided, above 0.
    """
    numbers = torch.arange(len(first), device=first.device).repeat(2)
    return supervised_contrastive(torch.cat([first, second]), numbers, temperature)


def image_text(images: Tensor, texts: Tensor, captions: Sequence[str], temperature: float = 0.1) -> Tensor:
    """Return the loss of CLIP: each image is to be told by its text from those of the batch, and the reverse; a scalar.

    Where texts are equal, the target is shared out evenly among them.

    Args:
        images: embeddings, (N, D), of any length.
        texts: embeddings of the images' captions, (N, D), of any length.
        captions: N texts.
        temperature: by which cosine similarities are divided, above 0.
    """
    similarities = normalize(images.float(), dim=1) @ normalize(texts.float(), dim=1).T / temperature
    same = torch.tensor([[text == other for other in captions] for text in captions], device=images.device).float()
    targets = same / same.sum(dim=1, keepdim=True)  # symmetric: equal texts are equally many on both sides
    return (cross_entropy(similarities, targets) + cross_entropy(similarities.T, targets)) / 2
