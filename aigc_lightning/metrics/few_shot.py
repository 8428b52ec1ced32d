"""Few-shot classification: new classes, of which a few examples each are given, recognised by the nearest of them.

Sources: Lake, Salakhutdinov, Tenenbaum, Human-level concept learning through probabilistic program induction, Science
2015; Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, section 4.1 (episodes whose classes are
drawn from all held-out ones); Snell, Swersky, Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
equation 1 (with several examples, the class is their mean).
Shapes: N images, D dimensions, W classes of an episode (ways), S examples of each (shots).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from aigc_lightning.core import keyed
from aigc_lightning.errors import UserError


class FewShot(NamedTuple):
    """The accuracy over episodes, in [0, 1], and its standard error."""

    accuracy: float
    stderr: float


def few_shot(
    vectors: Tensor, labels: Tensor, ways: int = 20, shots: int = 1, episodes: int = 1000, seed: int = 0
) -> FewShot:
    """Return how often a query is assigned to its class, by the cosine to the mean of each class's examples.

    An episode draws W classes, and of each S examples and one query.

    Args:
        vectors: (N, D), of any length.
        labels: int64 (N,), the classes.
        ways: W.
        shots: S.
        episodes: number of episodes, at least 2.
        seed: which episodes are drawn.

    Raises:
        UserError: fewer than W classes have S + 1 images.
    """
    units, labels = normalize(vectors.float(), dim=1), labels.cpu()
    members = [(labels == label).nonzero()[:, 0] for label in labels.unique()]
    members = [rows for rows in members if len(rows) > shots]
    if len(members) < ways:
        raise UserError(
            f"{ways}-way {shots}-shot episodes need {ways} classes of at least {shots + 1} images, but "
            f"{len(members)} are there.",
            "Give data with more classes or images.",
        )
    accuracies = torch.empty(episodes, dtype=torch.float64)
    for episode in range(episodes):
        generator = keyed.generator(seed, episode)
        drawn = torch.randperm(len(members), generator=generator)[:ways].tolist()
        rows = [
            members[place][torch.randperm(len(members[place]), generator=generator)[: shots + 1]] for place in drawn
        ]
        chosen = units[torch.stack(rows)]  # (W, S + 1, D)
        prototypes = normalize(chosen[:, :shots].mean(dim=1), dim=1)
        found = (chosen[:, shots] @ prototypes.T).argmax(dim=1)
        accuracies[episode] = (found.cpu() == torch.arange(ways)).double().mean()
    return FewShot(accuracies.mean().item(), accuracies.std().item() / episodes**0.5)
