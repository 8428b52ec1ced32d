"""Secrets that are planted wherever an address or a key can be given are found in no file and on no screen."""

import base64
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from aigc_lightning.commands.data.shard import main as shard
from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE

LOGIN, QUERY, FRAGMENT, KEY = (
    "s3cret-l0gin-aa11",
    "s3cret-query-bb22",
    "s3cret-fragm-cc33",
    "s3cret-w4ndb-dd44" + "0" * 23,
)
SECRETS = (LOGIN, QUERY, FRAGMENT, KEY, base64.b64encode(f"{LOGIN}:".encode()).decode())


@pytest.fixture
def guarded(serve, folder, quiet_server):
    """Serve `public` to those who have login and query; return its address with and without the secrets."""
    public = folder / "public"
    public.mkdir()

    base: Any = quiet_server

    class Guarded(base):
        def do_GET(self):  # noqa: N802
            login = f"Basic {base64.b64encode(f'{LOGIN}:'.encode()).decode()}"
            if self.headers.get("Authorization") != login or not self.path.endswith(f"?sig={QUERY}"):
                self.send_error(403, f"no {self.headers.get('Authorization')} {self.path}")  # repeats what it was told
            else:
                super().do_GET()

    host = serve(partial(Guarded, directory=str(public))).removeprefix("http://")

    def address(path):
        return f"http://{LOGIN}@{host}/{path}?sig={QUERY}#{FRAGMENT}"

    return address, public


@pytest.fixture
def shards(guarded, folder):
    address, public = guarded
    for number in range(24):
        path = folder / "images" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number * 9).save(path)
    assert shard([str(folder / "images"), str(public / "shards"), "--samples", "6"]) == 0
    return address("shards")


@pytest.fixture
def config(write, folder):
    options = {"root": "nowhere", "size": 8, "channels": 1, "batch_size": 4, "cache": str(folder / "cache")}
    data = {"data": {"class_path": "shards", "init_args": options}}
    return write("far.yaml", data)


def found_in(folder):
    """Return the files below a folder that hold a secret, in their names or bytes."""
    secrets = [secret.encode() for secret in SECRETS]
    files = [path for path in Path(folder).rglob("*") if path.is_file() and "public" not in path.parts]
    return [str(path) for path in files if any(secret in path.read_bytes() + bytes(path) for secret in secrets)]


def is_clean(done):
    assert not [secret for secret in SECRETS if secret in done.out + done.err], done.out + done.err
    return done


def without_data(config):
    """Return a config whose address stands in it as `aigc fit` would have saved it."""
    return yaml.safe_load(Path(config).read_text())["data"]["init_args"]["root"]


def test_a_run_on_data_with_secrets_leaves_none_and_can_go_on(shards, config, aigc, folder, monkeypatch):
    fit = ["fit", "--config", config, "--run", "run", "--logger", "tensorboard"]
    assert is_clean(aigc(*fit, "--data.root", shards)).code == 0
    saved = without_data("run/config.yaml")
    assert "<hidden>@127.0.0.1" in saved and saved.endswith("/shards?sig=<hidden>#<hidden>")
    record = torch.load("run/checkpoints/last.ckpt", weights_only=True)["aigc"]
    assert record["data"]["config"]["root"] == saved
    assert "data.root" in (folder / "run" / "log.txt").read_text()
    again = ["fit", "--resume", "run", "--trainer.max_steps", 4]
    done = is_clean(aigc(*again))
    assert done.code == 2 and len(done.lines) == 2
    assert "--data.root" in done.err and ADDRESSES_VARIABLE in done.err and "secrets are not saved" in done.err
    assert is_clean(aigc(*again, "--data.root", shards)).code == 0
    monkeypatch.setenv(ADDRESSES_VARIABLE, f"https://another/address {shards}")
    assert is_clean(aigc(*again[:3], "--trainer.max_steps", 5)).code == 0
    for command in (["validate", "--checkpoint", "run"], ["evaluate", "run", "--metrics", "psnr"]):
        assert "secrets are not saved" not in is_clean(aigc(*command)).err
    assert found_in(folder) == []


@pytest.mark.parametrize("secret", ["address", "name"])
def test_options_with_secrets_that_are_wrong(secret, aigc, shards, config):
    wrong = shards.replace("shards", "nothing") if secret == "address" else "3"
    option = "--data.root" if secret == "address" else f"--data.{secret}_token={KEY}"
    done = is_clean(aigc("fit", "--config", config, option, wrong))
    assert done.code == 2 and len(done.lines) == 2


def test_printed_configs_and_job_scripts(shards, config, aigc, folder):
    printed = is_clean(aigc("fit", "--config", config, "--data.root", shards, "--print_config"))
    assert printed.code == 0 and yaml.safe_load(printed.out)["data"]["init_args"]["root"].count("<hidden>") == 3
    for launcher in (["slurm", "--time", "1:00:00"], ["torchrun"]):
        done = is_clean(
            aigc("job", *launcher, "--gpus", 0, "--config", config, "--data.root", shards, "--out", "job.sh")
        )
        assert done.code == 0 and ADDRESSES_VARIABLE in done.err, done.err
        assert f"export {ADDRESSES_VARIABLE}=" in (folder / "job.sh").read_text()
        (folder / "job.sh").rename(folder / f"{launcher[0]}.sh")
        refused = is_clean(aigc("job", *launcher, "--gpus", 0, "--config", config, "--model.hub_token", KEY))
        assert refused.code == 2
    assert found_in(folder) == []


def test_checkpoints_behind_addresses_with_secrets(guarded, trained, tiny, aigc, folder):
    address, public = guarded
    shutil.copy(trained / "checkpoints" / "last.ckpt", public / "last.ckpt")
    far = address("last.ckpt")
    for command in (
        ["sample", far, "--seeds", "0,1", "--grid", "--out", "samples"],
        ["interpolate", far, "--seeds", "0,1", "--frames", 2, "--out", "walk.gif"],
        ["export", far, "--out", "weights.safetensors"],
        ["evaluate", far, "--extractor", "inception", "--out", "scores"],
        ["validate", "--config", tiny, "--model.generator_lr", "0.01", "--checkpoint", far],
        ["predict", "--config", tiny, "--checkpoint", far, "--run", "predicted"],
        ["fit", "--config", tiny, "--resume", far, "--run", "resumed"],
        ["compare", far, address("other")],
        ["edit", far, "nothing.png"],
        ["edit", "--ops", "flip=h", far],
        ["sample", far.replace("last", "none")],
        ["sample", far.replace("http", "ftp")],
        ["sample", far.replace("127.0.0.1", "[::1")],
        ["plugins", "show", far],
        ["fit", "--config", far],
        ["data", "stats", "shards", "--data.root", far],
        ["data", "check", "image_folder", "--data.root", far],
        ["data", "prepare", far, "prepared", "--size", 8],
        ["data", "shard", far, "packed"],
        ["assets", "fetch", far],
        ["assets", "fetch", "vgg16", "--path", far],
        ["sample", far.replace("last", "none"), "--debug"],
        [far],
    ):
        done = is_clean(aigc(*command))
        assert done.code in (0, 2), done.err
    assert (folder / "samples" / "000001.png").is_file() and (folder / "weights.safetensors").is_file()
    assert found_in(folder) == []


@pytest.mark.slow
def test_keys_and_command_lines_in_what_loggers_keep(shards, config, aigc_process, script, folder, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://{LOGIN}@127.0.0.1:9/?key={QUERY}")
    fit = [script, "fit", "--config", config, "--run", "run", "--logger", "[wandb,tensorboard]", "--data.root", shards]
    done = is_clean(aigc_process(*fit))
    assert done.code == 0, done.err
    assert list((folder / "run").glob("wandb/offline-run-*/*.wandb")) and list((folder / "run").glob("tensorboard/*"))
    assert found_in(folder) == []
