"""Several processes: each file has one writer, and all know the same metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODEL = ["--model=dcgan", "--model.width=4", "--model.latent_size=4", "--data=digits", "--data.size=8"]
FIT = [*MODEL, "--data.batch_size=100", "--grids.num=4", "--grids.every_n_steps=5", "--trainer.max_steps=20"]


@pytest.mark.slow
def test_each_file_has_one_writer_and_all_processes_know_the_same_metrics(tmp_path):
    command = [sys.executable, "-m", "aigc_lightning", "fit", *FIT, "--run=run", "--logger=tensorboard"]
    command += ["--trainer.accelerator=cpu", "--trainer.devices=2", "--checkpoints.every_n_steps=5", "--trust-config"]
    command += ["--trainer.callbacks+=jobs_trouble.Witness", f"--trainer.callbacks.folder={tmp_path}"]
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert {"metrics.csv", "config.yaml", "grids/step_000010.png", "checkpoints/last.ckpt"} <= set(first["files"])
    assert second["files"] == []
    assert sorted(path.name for path in (tmp_path / "run").glob("log*")) == ["log.txt", "log_rank1.txt"]
    assert first["metrics"] == second["metrics"] != {}
