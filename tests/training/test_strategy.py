"""Strategies that Lightning knows by name, and what becomes of those whose processes would hang."""

import pytest
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from aigc_lightning.core.engine.distributed import LaunchedDDPStrategy
from aigc_lightning.training.strategy import started_safely


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("ddp_fork", "ddp"),
        ("ddp_notebook", "ddp"),
        ("ddp_fork_find_unused_parameters_true", "ddp_find_unused_parameters_true"),
        ("ddp_notebook_find_unused_parameters_false", "ddp_find_unused_parameters_false"),
    ],
)
def test_what_would_fork_becomes_ddp(asked, chosen, capsys):
    assert started_safely(asked, nn.Linear(1, 1)) == chosen
    assert f"Strategy {asked} becomes ddp" in capsys.readouterr().out


@pytest.mark.parametrize("asked", ["auto", "ddp", "ddp_find_unused_parameters_true"])
def test_others_stay(asked, capsys):
    assert started_safely(asked, nn.Linear(1, 1)) == asked
    assert capsys.readouterr().out == ""


def test_layers_that_cannot_be_sent_are_not_spawned():
    assert isinstance(started_safely("ddp_spawn", nn.Linear(1, 1)), LaunchedDDPStrategy)
    assert started_safely("ddp_spawn", spectral_norm(nn.Linear(1, 1))) == "ddp"
