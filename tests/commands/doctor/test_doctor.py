"""`aigc doctor`: the report, and the check of resuming, which must also find what it looks for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TROUBLE = Path(__file__).parents[2] / "distributed"
TINY = ["--model=dcgan", "--model.width=4", "--model.latent_size=4", "--data=digits", "--data.size=8"]
FIT = [*TINY, "--grids.num=4", "--trainer.accelerator=cpu", "--data.batch_size=16"]


def test_the_report_names_versions_and_devices(aigc):
    outcome = aigc("doctor")
    assert outcome.code == 0
    assert all(name in outcome.out for name in ("aigc-lightning", "torch", "GPUs", "launcher"))


def test_a_stop_outside_of_the_run_is_refused(aigc):
    outcome = aigc("doctor", "resume", "--steps=3", "--stop=3", *FIT)
    assert (outcome.code, len(outcome.lines)) == (2, 1)


def test_options_of_the_wrong_type_are_refused(aigc):
    outcome = aigc("doctor", "resume", "--steps=many", *FIT)
    assert outcome.code == 2 and "--steps" in outcome.lines[0]


def test_a_mistake_is_reported_as_by_fit(aigc):
    outcome = aigc("doctor", "resume", "--config=nowhere.yaml")
    assert outcome.code == 2
    assert "There is no config file nowhere.yaml" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--trainer.devices=2", "--data.num_workers=2"]], ids=["one", "two with workers"])
def test_a_model_that_resumes_exactly_passes(aigc, more):
    outcome = aigc("doctor", "resume", *FIT, *more)
    assert outcome.code == 0, outcome.err
    assert "bit for bit" in outcome.out


@pytest.mark.slow
def test_state_that_no_checkpoint_holds_is_found(aigc, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TROUBLE))
    outcome = aigc("doctor", "resume", *FIT, "--trust-config", "--trainer.callbacks+=trouble.Drift")
    assert outcome.code == 2
    assert "averages.generator" in outcome.err


@pytest.mark.slow
def test_a_signal_ends_the_run_that_is_checked(folder):
    command = [sys.executable, "-m", "aigc_lightning", "doctor", "resume", *FIT, "--steps=1000000"]
    doctor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert doctor.stdout is not None and "1/4" in doctor.stdout.readline()
    time.sleep(3)
    doctor.terminate()
    assert doctor.wait(60) == 143
    with pytest.raises(ProcessLookupError):  # of its group nothing is left
        for _ in range(100):
            os.killpg(doctor.pid, 0)
            time.sleep(0.1)
