"""Checkpoints by address: read like files, and nothing in them is executed."""

import shutil
import socket
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch

from aigc_lightning.core.io import download, http
from aigc_lightning.core.io.download import downloaded
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.errors import UserError

LAST = Path("checkpoints") / "last.ckpt"


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return open, ("marker", "w")


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *parts):
        pass


@pytest.fixture
def site(serve, folder):
    """Return the address of a folder that holds files, and the folder."""
    public = folder / "public"
    public.mkdir()
    return serve(public), public


def test_a_file_is_copied_with_its_name(site):
    address, public = site
    (public / "a b.ckpt").write_bytes(b"0123456789" * 300_000)
    path = downloaded(f"{address}/a%20b.ckpt?x=1")
    assert path.name == "a b.ckpt" and path.read_bytes() == (public / "a b.ckpt").read_bytes()


@pytest.mark.parametrize("name", ["", "..", "%2e%2e", "a%2f..%2f..%2fb"])
def test_no_address_leaves_the_folder_of_downloads(name):
    assert download._name(f"http://x/{name}") in ("checkpoint.ckpt", "b")


def test_a_run_is_sampled_scored_and_resumed_by_address(trained, site, aigc, tiny, folder, differing):
    address, public = site
    assert aigc("fit", "--config", tiny, "--run", "part").code == 0
    shutil.copy(folder / "part" / LAST, public / "last.ckpt")
    assert aigc("sample", f"{address}/last.ckpt", "--seeds", "0,1", "--out", "far").code == 0
    assert aigc("sample", "part", "--seeds", "0,1", "--out", "near").code == 0
    assert (folder / "far" / "000001.png").read_bytes() == (folder / "near" / "000001.png").read_bytes()
    scored = aigc("validate", "--config", tiny, "--checkpoint", f"{address}/last.ckpt")
    assert scored.code == 0 and "sliced_wasserstein" in scored.out, scored.err
    predicted = aigc("predict", "--config", tiny, "--checkpoint", f"{address}/last.ckpt")
    assert predicted.code == 0 and list(folder.glob("predictions/*")), predicted.err
    for options in (["--resume", f"{address}/last.ckpt", "--run", "far_run"], ["--resume", "part"]):
        done = aigc("fit", "--config", tiny, "--trainer.max_steps", 5, *options)
        assert done.code == 0, done.err
    assert differing(folder / "far_run" / LAST, folder / "part" / LAST) == []


COMMANDS = {
    "fit": ["fit", "--config", "tiny.yaml", "--resume"],
    "fit without config": ["fit", "--model", "dcgan", "--data", "digits", "--resume"],
    "validate": ["validate", "--config", "tiny.yaml", "--checkpoint"],
    "predict": ["predict", "--config", "tiny.yaml", "--checkpoint"],
    "sample": ["sample"],
    "export": ["export"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_executes_what_is_hidden_at_an_address(command, trained, site, aigc, tiny, folder):
    address, public = site
    checkpoint = torch.load(trained / LAST, weights_only=True)
    torch.save({**checkpoint, "payload": Payload()}, public / "bad.ckpt")
    (folder / "evil_module.py").write_text("open('marker', 'w').close()\nclass Model: pass\n")
    checkpoint[RECORD_KEY]["class_path"] = "evil_module.Model"
    torch.save(checkpoint, public / "evil.ckpt")
    for name, said in (("bad", "bad.ckpt"), ("evil", "evil_module")):
        done = aigc(*COMMANDS[command], f"{address}/{name}.ckpt")
        assert done.code == 2 and said in done.err and len(done.lines) <= 4, done.err
        assert not (folder / "marker").exists()
    torch.load(public / "bad.ckpt", weights_only=False)
    assert (folder / "marker").exists()  # the payload works, so the checks above would have noticed


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_at_the_address(command, aigc, tiny, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/last.ckpt"
    done = aigc(*COMMANDS[command], address)
    assert done.code == 2 and f"{address} cannot be reached" in done.err and len(done.lines) <= 4, done.err


def test_no_such_file_at_the_address(site, aigc):
    done = aigc("sample", f"{site[0]}/no.ckpt")
    assert done.code == 2 and "404" in done.err


def test_secrets_of_an_address_are_not_shown(aigc, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError) as error:
        downloaded("http://me:s3cr3t-pass@127.0.0.1:1/last.ckpt")
    assert "s3cr3t" not in str(error.value) and "127.0.0.1" in str(error.value)


def test_a_server_that_says_nothing_is_left(serve, monkeypatch):
    monkeypatch.setattr(http, "_PATIENCE", 0.2)

    class Silent(Handler):
        def do_GET(self):
            time.sleep(1)

    start = time.monotonic()
    with pytest.raises(UserError, match="cannot be reached: timed out"):
        downloaded(serve(Silent) + "/last.ckpt")
    assert time.monotonic() - start < 0.9


def test_a_download_that_breaks_off_is_no_checkpoint(serve):
    class Short(Handler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)

    with pytest.raises(UserError, match="10 of 1000 bytes"):
        downloaded(serve(Short) + "/last.ckpt")


def test_a_long_download_shows_its_progress(site, monkeypatch, capfd):
    monkeypatch.setattr(download, "_POLITE", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")
    address, public = site
    (public / "large.ckpt").write_bytes(bytes(3 * 2**20))
    downloaded(f"{address}/large.ckpt")
    assert "large.ckpt" in capfd.readouterr().err


@pytest.mark.parametrize("address", ["s3://bucket/a.ckpt", "file:///etc/passwd", "ftp://host/a.ckpt"])
def test_other_addresses_are_refused(address, aigc):
    done = aigc("sample", address)
    assert done.code == 2 and address in done.err and "http" in done.err
