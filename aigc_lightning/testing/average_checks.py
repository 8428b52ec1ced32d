"""Checks of the moving averages of a model's networks."""

import torch
from torch import nn

from aigc_lightning.core.averaged import UPDATES_KEY
from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.core.ema import recorded_ema
from aigc_lightning.core.run.folder import CHECKPOINTS
from aigc_lightning.testing.cases import ModelCase
from aigc_lightning.testing.checks import not_applicable, require


def keeps_its_averages(case: ModelCase) -> None:
    """Each network that it names has its averages, which moved in the second step as float64 arithmetic says."""
    names = case.target.averaged_networks
    if not names:
        not_applicable("it names no networks in averaged_networks")
    model, ema = case.load(), recorded_ema(case.record)
    paths = [case.trained / CHECKPOINTS / f"step_{step:07d}.ckpt" for step in (1, 2)]
    first, second = (read_checkpoint(path) for path in paths)
    before, after = first["state_dict"], second["state_dict"]
    updates = [checkpoint.get(UPDATES_KEY, {}) for checkpoint in (first, second)]
    for name in names:
        network = getattr(model, name, None)
        require(isinstance(network, nn.Module), f"averaged_networks has {name}, and no network has that name.")
        averages = model.averages_of(name)
        require(
            len(averages) == ema.count and (not ema.count or name in updates[1]),
            f"No average of {name} is kept: call the base class in configure_model, on_train_start and "
            "on_save_checkpoint.",
        )
        done, now = (counts.get(name, 0) for counts in updates)
        require(now - done <= 1, f"The average of {name} was updated {now - done} times in a step.")
        kept = ema.kept(done, case.data().batch_size) if now > done else [1.0] * ema.count
        places = [f"averages.{name}", *(f"other_averages.{name}.{number}" for number in range(ema.count - 1))]
        for place, average, fraction in zip(places, averages, kept, strict=True):
            for key, parameter in average.named_parameters():
                if parameter.is_floating_point():
                    old, new = before[f"{place}.{key}"].double(), after[f"{name}.{key}"].double()
                    expected = fraction * old + (1 - fraction) * new
                    same = torch.allclose(after[f"{place}.{key}"].double(), expected, rtol=1e-4, atol=1e-6)
                    require(same, f"{place}.{key} is not the moving average of {name}.{key}.")
