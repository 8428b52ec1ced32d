import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from aigc_lightning.commands.ema import ema
from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.core.ema import Ema, exponent_of
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.errors import UserError
from aigc_lightning.inference.posthoc_ema import coefficients

WIDTHS = ("--ema.relative_widths", "0.05,0.10", "--ema.snapshot_every", 2)


@pytest.fixture
def run(aigc, tiny, folder):
    done = aigc("fit", "--config", tiny, *WIDTHS, "--run", "run", "--trainer.max_steps", 7)
    assert done.code == 0, done.err
    return folder / "run"


def tensors(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_snapshots_are_saved_every_so_often_and_at_the_end(run):
    names = sorted(path.name for path in (run / "ema").iterdir())
    assert names == [f"step_000000{step}_0.{width}.safetensors" for step in (2, 4, 6, 7) for width in ("050", "100")]
    model: Any = load_model(run)
    assert model.ema_settings == Ema(relative_widths="0.05,0.10", snapshot_every=2)
    assert len(model.averages_of("generator")) == 2 and model.averaged("generator") is model.averages["generator"]
    for average, width in zip(model.averages_of("generator"), ("050", "100"), strict=True):
        saved = tensors(run / "ema" / f"step_0000007_0.{width}.safetensors")
        assert all(torch.equal(saved[f"generator.{name}"], value) for name, value in average.state_dict().items())


def test_a_run_that_goes_on_saves_the_same(run, aigc, tiny, folder):
    assert aigc("fit", "--config", tiny, *WIDTHS, "--run", "half", "--trainer.max_steps", 3).code == 0
    assert aigc("fit", "--resume", "half", "--trainer.max_steps", 7).code == 0
    for path in (run / "ema").iterdir():
        one, other = tensors(path), tensors(folder / "half" / "ema" / path.name)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_stored_width_gives_the_last_snapshot(run, folder, aigc):
    assert ema([str(run), "--width", "0.10", "--out", "wide.safetensors"]) == 0
    model: Any = load_model(folder / "wide.safetensors")
    saved = tensors(run / "ema" / "step_0000007_0.100.safetensors")
    state = model.averages["generator"].state_dict()
    assert state.keys() == {name.removeprefix("generator.") for name in saved}
    assert all(torch.equal(saved[f"generator.{name}"], value) for name, value in state.items())


def test_another_width(run, folder, aigc, capfd):
    assert ema([str(run), "--width", "0.08", "--out", "a.safetensors"]) == 0
    assert "relative width 0.08 at step 7" in capfd.readouterr().out
    model: Any = load_model(folder / "a.safetensors")
    assert model.ema_settings == Ema(relative_widths="0.08") and len(model.other_averages) == 0
    profiles = [(exponent_of(width), float(step)) for step in (2, 4, 6, 7) for width in (0.05, 0.10)]
    factors, _ = coefficients(profiles, (exponent_of(0.08), 7.0))
    files = sorted((run / "ema").iterdir())
    for name, value in model.averages["generator"].named_parameters():
        stored = np.stack([tensors(path)[f"generator.{name}"].double().numpy() for path in files])
        np.testing.assert_allclose(value.numpy(), np.tensordot(factors, stored, 1), rtol=1e-6, atol=1e-7)
    assert aigc("sample", "a.safetensors", "--seeds", "0-3", "--out", "samples").code == 0
    trained: Any = load_model(run)
    assert not torch.equal(trained.sample([1]), model.sample([1]))
    with safe_open("a.safetensors", framework="pt") as file:
        record = json.loads(file.metadata()[RECORD_KEY])
    assert record["step"] == 7 and record["ema"]["relative_widths"] == "0.08" and record["checkpoint"] == "last.ckpt"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["run", "--width", "0.4", "--out", "a.safetensors"], "--width has 0.4"),
        (["run", "--width", "0.08", "--out", "a.png"], "a.png"),
        (["nowhere", "--width", "0.08", "--out", "a.safetensors"], "nowhere is no run folder"),
        (["run", "--out", "a.safetensors"], "--width"),
    ],
)
def test_mistakes(options, said, run, folder):
    with pytest.raises(UserError, match=said):
        ema(options)


def test_snapshots_that_do_not_fit(run, folder, aigc, tiny):
    last = run / "ema" / "step_0000007_0.050.safetensors"
    kept = last.read_bytes()
    last.write_bytes(kept[:-3] + bytes([kept[-3] ^ 255]) + kept[-2:])
    with pytest.raises(UserError, match="damaged"):
        ema([str(run), "--width", "0.08", "--out", "a.safetensors"])
    last.write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        ema([str(run), "--width", "0.08", "--out", "a.safetensors"])
    assert aigc("fit", "--config", tiny, *WIDTHS, "--run", "other", "--model.width", 16).code == 0
    shutil.copy(folder / "other" / "ema" / "step_0000003_0.050.safetensors", last)
    with pytest.raises(UserError, match="another model"):
        ema([str(run), "--width", "0.08", "--out", "a.safetensors"])
    shutil.rmtree(run / "ema")
    with pytest.raises(UserError, match="no snapshots"):
        ema([str(run), "--width", "0.08", "--out", "a.safetensors"])
