"""Membership inference: how well a model's losses tell the images that it was trained on from others.

The attack calls an image a member if the loss is low: Yeom et al., Privacy Risk in Machine Learning, CSF 2018,
https://arxiv.org/abs/1709.01604 (section 3.2). The rate at few false alarms is what matters for privacy: Carlini et
al., Membership Inference Attacks From First Principles, S&P 2022, https://arxiv.org/abs/2112.03570.
The standard error is that of DeLong et al., Comparing the Areas under Two or More Correlated Receiver Operating
Characteristic Curves, Biometrics 1988.
Shapes: M members, N others.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from aigc_lightning.errors import UserError

#: Quantile of the normal distribution that leaves 2.5 % on either side.
_TWO_SIDED_95 = 1.959964


class Membership(NamedTuple):
    """What an attack by a threshold on the loss finds out."""

    auc: float  # probability that a member has a lower loss than another image: .5 for a model that keeps no secrets
    stderr: float  # its standard error
    low: float  # its 95 % confidence interval
    high: float
    true_positives: float  # share of the members that are recognised at the given rate of false alarms


def membership(members: Tensor, others: Tensor, false_alarms: float = 0.01) -> Membership:
    """Return how well losses tell members from other images.

    Args:
        members: losses (M,) of images that the model was trained on.
        others: losses (N,) of images of the same kind that it has not seen.
        false_alarms: share of the others that are called members.

    Raises:
        UserError: there are fewer than two images on a side, or a loss is not a number.
    """
    if min(len(members), len(others)) < 2:
        raise UserError("Membership inference needs two training and two held-out images.", "Give more.")
    members, others = members.double(), others.double()
    if members.isnan().any() or others.isnan().any():
        raise UserError(
            "The loss of an image is not a number.", "The model may have diverged; try an older checkpoint."
        )
    ranks = _shares_above(members, others), 1 - _shares_above(others, members)
    auc = ranks[0].mean().item()
    stderr = math.sqrt(sum(rank.var().item() / len(rank) for rank in ranks))
    threshold = others.sort().values[math.floor(false_alarms * len(others))]
    reach = _TWO_SIDED_95 * stderr
    found = (members < threshold).double().mean().item()
    return Membership(auc, stderr, max(0.0, auc - reach), min(1.0, auc + reach), found)


def _shares_above(values: Tensor, others: Tensor) -> Tensor:
    """Return the share of the others that is above each value; equal ones count one half."""
    ordered = others.sort().values
    below = torch.searchsorted(ordered, values)
    not_above = torch.searchsorted(ordered, values, right=True)
    return 1 - (below + not_above).double() / (2 * len(others))
