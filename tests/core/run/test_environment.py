"""Environment variables of a run."""

import os

import pytest
import torch

from aigc_lightning.core.run.environment import find_no_gpus_fast, restored_environment

NAME = "PYTORCH_NVML_BASED_CUDA_CHECK"


def test_variables_are_restored(monkeypatch):
    monkeypatch.setenv("AIGC_BEFORE", "1")
    with restored_environment():
        os.environ["AIGC_NEW"] = "2"
        del os.environ["AIGC_BEFORE"]
    assert os.environ["AIGC_BEFORE"] == "1" and "AIGC_NEW" not in os.environ


@pytest.mark.parametrize(("available", "wanted"), [(True, "1"), (False, "0")])
def test_the_driver_is_asked_only_where_there_is_a_gpu(available, wanted, monkeypatch):
    monkeypatch.setenv(NAME, "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    find_no_gpus_fast()
    assert os.environ[NAME] == wanted
