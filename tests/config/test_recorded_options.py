"""A run folder from a stranger makes no command ask a server, read a path or write to a place that nobody said."""

import shutil
from typing import Any

import pytest
import torch
import yaml

from aigc_lightning.core.io.redaction import ADDRESSES_VARIABLE
from aigc_lightning.core.records import RECORD_KEY


@pytest.fixture
def asked(serve, quiet_server, folder):
    """Return the address of a server, and a list of what it was asked for."""
    requests: list[str] = []

    base: Any = quiet_server

    class Noting(base):
        def do_GET(self):  # noqa: N802
            requests.append(self.path)
            self.send_error(404)

    return serve(Noting), requests


@pytest.fixture
def strange(folder, trained):
    """Return a function that makes a run folder whose config and record have other data."""

    def make(class_path, init_args, **sections):
        run = folder / "strange"
        shutil.copytree(trained, run)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config |= {"data": {"class_path": class_path, "init_args": init_args}, **sections}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        path = run / "checkpoints" / "last.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        checkpoint[RECORD_KEY]["data"] = {"class_path": class_path, "config": init_args}
        torch.save(checkpoint, path)
        return run

    return make


COMMANDS: dict[str, list[Any]] = {
    "fit": ["fit", "--trainer.max_steps", 50, "--resume"],
    "validate": ["validate", "--checkpoint"],
    "test": ["test", "--checkpoint"],
    "predict": ["predict", "--checkpoint"],
    "evaluate": ["evaluate", "--extractor", "inception"],
}
OTHERS: dict[str, list[Any]] = {
    "sample": ["sample", "--seeds", "0"],
    "interpolate": ["interpolate", "--seeds", "0,1", "--frames", 1],
    "export": ["export"],
    "compare": ["compare", "other"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_address_of_a_run_is_asked_unless_the_user_gives_it(command, strange, asked, aigc, monkeypatch):
    address, requests = asked
    run = strange("aigc_lightning.data.shards.shards.Shards", {"root": f"{address}/x", "size": 8, "channels": 1})
    refused = aigc(*COMMANDS[command], run)
    assert refused.code == 2 and len(refused.lines) == 2 and not requests, refused.err
    assert f"is the address {address}/x, which you have not given" in refused.err
    assert f"--data.root {address}/x" in refused.err and ADDRESSES_VARIABLE in refused.err
    for given in ("option", "variable"):
        requests.clear()
        if given == "variable":
            monkeypatch.setenv(ADDRESSES_VARIABLE, f"{address}/x")
        options = ["--data.root", f"{address}/x"] if given == "option" else []
        assert aigc(*COMMANDS[command], run, *options).code == 2 and set(requests) == {"/x/shards.json"}


@pytest.mark.parametrize("command", [*COMMANDS, *OTHERS])
def test_commands_that_need_no_data_ask_nobody(command, strange, asked, aigc):
    address, requests = asked
    run = strange("aigc_lightning.data.shards.shards.Shards", {"root": f"{address}/x", "size": 8, "channels": 1})
    aigc(*{**COMMANDS, **OTHERS}[command], run)
    assert not requests


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_of_the_user_may_name_addresses(command, strange, asked, aigc, folder):
    address, requests = asked
    run = strange("aigc_lightning.data.shards.shards.Shards", {"root": f"{address}/x", "size": 8, "channels": 1})
    shutil.copy(run / "config.yaml", folder / "mine.yaml")
    option = ["--data", "mine.yaml"] if command == "evaluate" else ["--config", "mine.yaml"]
    assert aigc(*COMMANDS[command], run, *option).code == 2 and set(requests) == {"/x/shards.json"}


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_downloaded_and_no_place_is_written_to_that_a_run_names(command, strange, aigc, folder, monkeypatch):
    fetched: list[Any] = []
    monkeypatch.setattr("aigc_lightning.data.sets.torchvision_sets.PublishedSet._fetch", fetched.append)
    init_args = {"root": str(folder / "home"), "size": 8, "download": True}
    nested = {"data": {"class_path": "aigc_lightning.data.sets.torchvision_sets.MNIST", "init_args": init_args}}
    for class_path, given, option in (
        ("aigc_lightning.data.sets.torchvision_sets.MNIST", init_args, "--data.download"),
        ("aigc_lightning.data.degraded_images.DegradedImages", nested, "--data.data.download"),
    ):
        run = strange(class_path, given)
        done = aigc(*COMMANDS[command], run)
        assert done.code == 2 and not fetched and not (folder / "home").exists()
        assert "Left out" in done.out and f"add: {option} true" in done.out, done.out + done.err
        shutil.rmtree(run)


def test_the_cache_that_a_run_names_is_not_written_to(strange, aigc, folder, serve):
    (folder / "site").mkdir()
    address = serve(folder / "site")
    args = {"root": address, "cache": str(folder / "home"), "size": 8, "channels": 1}
    done = aigc("evaluate", strange("aigc_lightning.data.shards.shards.Shards", args), "--data.root", address)
    assert done.code == 2 and "404" in done.err and not (folder / "home").exists()
    assert f"add: --data.cache {folder / 'home'}" in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_paths_are_said_before_they_are_read(command, strange, aigc, folder):
    (folder / "private").mkdir()  # there is nothing in it
    args = {"root": "private", "size": 8, "channels": 1}
    done = aigc(*COMMANDS[command], strange("aigc_lightning.data.folders.image_folder.ImageFolder", args))
    assert done.code == 2 and "private has no images" in done.err
    said = next(line for line in done.out.splitlines() if "data.root private" in line)
    assert said.startswith("As ") and ("config.yaml says" in said or "record of last.ckpt says" in said)


def test_a_user_who_says_it_hears_nothing(strange, aigc):
    run = strange(
        "aigc_lightning.data.folders.image_folder.ImageFolder", {"root": "nowhere/at", "size": 8, "channels": 1}
    )
    assert "As " not in aigc("validate", "--checkpoint", run, "--data.root", "else/where").out
    assert "As " not in aigc("evaluate", run, "--data.root", "else/where").out


@pytest.mark.parametrize("key", ["run", "resume", "checkpoint"])
def test_a_config_says_neither_where_to_write_nor_what_to_go_on_from(key, write, aigc, folder):
    config = write("far.yaml", {key: str(folder / "elsewhere")})
    done = aigc("fit", "--config", config)
    assert done.code == 2 and not (folder / "elsewhere").exists() and not (folder / "runs").exists()
    assert key in done.err


def test_an_interrupted_run_says_what_to_give_again(monkeypatch):
    from jsonargparse import Namespace

    from aigc_lightning.config.recorded_options import to_repeat

    data = Namespace(
        class_path="aigc_lightning.data.shards.shards.Shards",
        init_args=Namespace(root="https://s3cret@host/x", cache="/scratch", size=8),
    )
    assert to_repeat(Namespace(data=data, run="http://x", trainer=Namespace(max_steps=3))) == [
        "--data.root", "https://<hidden>@host/x", "--data.cache", "/scratch",
    ]  # fmt: skip
