"""What a run writes about itself, and what it never writes."""

import json

import pytest
import torch
import yaml

from aigc_lightning.core.io.redaction import HIDDEN
from aigc_lightning.core.records import RECORD_KEY

PLUGIN = """
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.data.sets.digits import Digits

class Model(DCGAN):
    def __init__(self, spec, latent_size: int = 4, hub_token: str = "", tokenizer: str = "gpt2"):
        super().__init__(spec, latent_size, 8)

class Data(Digits):
    def __init__(self, api_key: str = "", url: str = "", batch_size: int = 300):
        super().__init__(8, batch_size)
"""
SECRETS = ["s3cr3t-model", "s3cr3t-data", "me:s3cr3t-login", "s3cr3t-environment"]


@pytest.fixture
def with_secrets(folder, monkeypatch):
    """Return a command line with secrets in every place."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "s3cr3t-environment")
    (folder / "secretive.py").write_text(PLUGIN)
    config = {
        "model": {"class_path": "secretive.Model"},
        "data": {
            "class_path": "secretive.Data",
            "init_args": {"api_key": "s3cr3t-data", "url": "https://me:s3cr3t-login@host/x"},
        },
        "trainer": {"max_steps": 2, "accelerator": "cpu", "limit_val_batches": 0},
        "grids": {"num": 1},
    }
    (folder / "secrets.yaml").write_text(yaml.safe_dump(config))
    options = ["--model.hub_token", "s3cr3t-model", "--model.tokenizer", "x s3cr3t-environment y", "--trust-config"]
    yield ["fit", "--config", "secrets.yaml", *options]
    import sys

    sys.modules.pop("secretive", None)


def test_no_secret_is_written_anywhere(aigc, with_secrets, folder):
    done = aigc(*with_secrets)
    assert done.code == 0, done.err
    run = folder / "runs" / "secrets" / "1"
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"config.yaml", "log.txt", "last.ckpt", "environment.json"} <= {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content], path
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["init_args"]["api_key"] == config["model"]["init_args"]["hub_token"] == HIDDEN
    assert config["data"]["init_args"]["batch_size"] == 300  # the rest is there
    assert "--model.hub_token <hidden>" in (run / "log.txt").read_text()


def test_a_run_with_secrets_can_be_resumed(aigc, with_secrets):
    assert aigc(*with_secrets).code == 0
    done = aigc(*with_secrets, "--resume", "--trainer.max_steps", 3)
    assert done.code == 0, done.err


def test_the_config_is_whole_and_says_what_the_run_is(aigc, tiny, folder):
    aigc("fit", "--config", tiny, "--run", "r", "--max_images", 600, "--trainer.max_steps", -1)
    config = yaml.safe_load((folder / "r" / "config.yaml").read_text())
    assert config["model"]["class_path"] == "aigc_lightning.models.dcgan.DCGAN"
    assert config["model"]["init_args"]["generator_lr"] == 2e-4  # a default
    assert config["max_images"] == 600 and config["seed_everything"] == 0
    assert not {"run", "resume", "config"} & config.keys()  # which say how it was started


def test_the_same_config_is_not_kept_twice_and_another_is(aigc, tiny, folder):
    aigc("fit", "--config", tiny, "--run", "r")
    aigc("fit", "--resume", "r", "--trainer.max_steps", 4)
    aigc("fit", "--resume", "r", "--trainer.max_steps", 5)
    assert sorted(path.name for path in (folder / "r").glob("config*")) == [
        "config.yaml",
        "config_before_1.yaml",
        "config_before_2.yaml",
    ]
    aigc("fit", "--resume", "r")  # nothing to do: the config is that of before
    assert len(list((folder / "r").glob("config*"))) == 3
    kept = [yaml.safe_load((folder / "r" / name).read_text())["trainer"]["max_steps"] for name in
            ("config_before_1.yaml", "config_before_2.yaml", "config.yaml")]  # fmt: skip
    assert kept == [3, 4, 5]


def test_the_environment_and_the_checkpoints_record(trained):
    environment = json.loads((trained / "environment.json").read_text())
    assert environment["python"].count(".") == 2 and environment["platform"]
    assert {"torch", "lightning", "aigc-lightning"} <= environment["packages"].keys()
    record = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)[RECORD_KEY]
    assert record["seed"] == 0 and record["data"]["class_path"].endswith("Digits")
