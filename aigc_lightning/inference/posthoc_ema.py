"""Power-function averages of any width, made after the training from snapshots of others.

T. Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR 2024, section 3.2: the
profile of the wanted average is approximated by a weighted sum of the snapshots' profiles with the least squared error,
and the same sum of the snapshots' weights is the average.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from aigc_lightning.core.checkpoint import file_hash, load_with_record
from aigc_lightning.core.ema import Ema, check_width, exponent_of
from aigc_lightning.core.ema_snapshots import Snapshot, find_snapshots, read_snapshot
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.errors import UserError

Numbers = npt.NDArray[np.float64]
#: The exponent and the end of a profile, (gamma, t): its weight at time s, up to t, is (gamma+1) s^gamma / t^(gamma+1).
Profile = tuple[float, float]


def product(first: Profile, second: Profile) -> float:
    """Return the integral over time of the product of two profiles."""
    (one, end), (other, other_end) = first, second
    scale = (one + 1) * (other + 1) / ((one + other + 1) * max(end, other_end))
    # The earlier end to the power of the later profile's exponent, so that nothing overflows.
    ratio = (end / other_end) ** other if end < other_end else (other_end / end) ** one
    return float(scale * ratio)


def coefficients(stored: Sequence[Profile], wanted: Profile) -> tuple[Numbers, float]:
    """Return the factors of stored averages whose sum is nearest to a wanted one, and what is missing.

    Args:
        stored: profiles of the snapshots, all different.
        wanted: the profile to approximate.

    Returns:
        The factors (N,), and the norm of the difference of the profiles relative to that of the wanted one.
    """
    if wanted in stored:  # the exact solution, without rounding
        exact = np.zeros(len(stored))
        exact[list(stored).index(wanted)] = 1.0
        return exact, 0.0
    norms = np.sqrt([product(profile, profile) for profile in [*stored, wanted]])
    products = np.array([[product(first, second) for second in [*stored, wanted]] for first in stored])
    products /= norms[:-1, None] * norms[None, :]
    found = np.linalg.lstsq(products[:, :-1], products[:, -1], rcond=None)[0]
    missing = 1 - 2 * products[:, -1] @ found + found @ products[:, :-1] @ found
    return found * norms[-1] / norms[:-1], float(np.sqrt(max(0.0, missing)))


def with_width(run: Path, width: float) -> tuple[ImageModel, dict[str, Any], float]:
    """Return a run's model with averages of another relative width, as of its last snapshots.

    Args:
        run: the run's folder.
        width: such as 0.08.

    Returns:
        The model, plain values that say what it was made from, and the largest error of a profile as `coefficients`
        returns it.

    Raises:
        UserError: the width is out of range, or the run has no snapshots that fit its model.
    """
    check_width(width, "--width")
    if not run.is_dir():
        raise UserError(f"{run} is no run folder.", "Give the folder of a run, which has the snapshots.")
    file = find_checkpoint(run)
    model, record = load_with_record(file)
    snapshots = find_snapshots(run, record)
    if not snapshots or not model.averages:
        raise UserError(
            f"{run} has no snapshots of averages.", "They are saved by `aigc fit --ema.relative_widths 0.05,0.10`."
        )
    if any(snapshot.updates.keys() != model.averages.keys() for snapshot in snapshots.values()):
        raise UserError(
            f"The snapshots in {run} are not of the averages of its model.", "Give the folder of another run."
        )
    step = max(snapshot.step for snapshot in snapshots.values())
    factors = {name: _factors(list(snapshots.values()), name, width, step) for name in model.averages}
    sums = _summed(model, snapshots, {name: found for name, (found, _) in factors.items()}, step)
    model.ema_settings = Ema(relative_widths=str(width))
    model.other_averages = nn.ModuleDict()
    for name, average in model.averages.items():
        average.load_state_dict(sums[name])
    made_from = {"checkpoint": file.name, "sha256": file_hash(file), "step": step}
    return model, made_from, max(missing for _, missing in factors.values())


def _factors(snapshots: list[Snapshot], name: str, width: float, step: int) -> tuple[Numbers, float]:
    stored = [(snapshot.exponent, float(snapshot.updates[name])) for snapshot in snapshots]
    end = max(end for snapshot, (_, end) in zip(snapshots, stored, strict=True) if snapshot.step == step)
    return coefficients(stored, (exponent_of(width), end))


def _summed(
    model: ImageModel, snapshots: dict[Path, Snapshot], factors: dict[str, Numbers], step: int
) -> dict[str, dict[str, Tensor]]:
    """Return the state of each average: floating-point parameters summed in float64, the rest as it is at the end."""
    states = {name: average.state_dict() for name, average in model.averages.items()}
    summed = {
        name: {key for key, parameter in average.named_parameters() if parameter.is_floating_point()}
        for name, average in model.averages.items()
    }
    sums: dict[str, dict[str, Tensor]] = {name: {} for name in states}
    for number, (path, snapshot) in enumerate(snapshots.items()):
        tensors = read_snapshot(path)
        for name, state in states.items():
            for key, now in state.items():
                value = tensors.get(f"{name}.{key}")
                if value is None or value.shape != now.shape or value.dtype != now.dtype:
                    raise UserError(f"{path} has no {name}.{key} as the run's model has.", "Move it elsewhere.")
                if key in summed[name]:
                    part = value.double() * float(factors[name][number])
                    sums[name][key] = sums[name][key] + part if key in sums[name] else part
                elif snapshot.step == step:
                    sums[name][key] = value
    return {name: {key: sums[name][key].to(states[name][key].dtype) for key in sums[name]} for name in sums}
