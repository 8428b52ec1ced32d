"""Names of files and classes, captions and records that hold escape sequences and line feeds are shown, not obeyed."""

import json
import shutil

import pytest
import torch
from PIL import Image

from aigc_lightning.core.records import RECORD_KEY

EVIL = "a\x1b[2J\x1b]0;t\x07\nError: forged\r\x9b31m\u202ex"
TEXTS = (".txt", ".csv", ".html", ".json", ".jsonl", ".yaml", ".sh")


def is_clean(done):
    """Check that only line feeds steer the screen, and that none of them is a stranger's."""
    for line in (done.out + done.err).split("\n"):
        assert line.isprintable() and not line.startswith("Error: forged"), repr(line)
    return done


def are_clean(folder):
    for path in folder.rglob("*"):
        if path.suffix in TEXTS and path.is_file():
            for line in path.read_text(encoding="utf-8").split("\n"):
                assert line.isprintable() or path.suffix in (".yaml", ".jsonl"), (path, line)
                assert not line.startswith("Error: forged")
    return True


@pytest.fixture
def images(folder):
    """Return a folder of images in two classes with evil names; three files cannot be read."""
    for number in range(24):
        path = folder / "images" / f"{number % 2}{EVIL}" / f"{number}{EVIL}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number * 9).save(path, format="PNG")
    (path.parent / f"bad{EVIL}.png").write_bytes(b"no image")
    return folder / "images"


def test_commands_on_data(images, aigc, folder):
    options = ["image_folder", "--data.root", images, "--data.size", 8, "--data.channels", 1, "--data.max_bad", 0.1]
    assert is_clean(aigc("data", "stats", *options, "--out", "stats.png")).code == 0
    assert r"\x1b[2J" in is_clean(aigc("data", "check", *options)).out
    assert is_clean(aigc("data", "preview", *options)).code == 0
    assert is_clean(aigc("data", "stats", *options[:-1], 0)).code == 2
    assert is_clean(aigc("data", "prepare", images, f"p{EVIL}", "--size", 8, "--channels", 1)).code == 0
    assert is_clean(aigc("data", "shard", images, "shards", "--max-bad", 0.1)).code == 0
    assert is_clean(aigc("data", "shard", images, "strict", "--max-bad", 0)).code == 2
    for command in ("stats", "check"):
        assert EVIL not in is_clean(aigc("data", command, *options, "--json")).out
    assert is_clean(aigc("edit", "--ops", "flip=h", images, "--out", f"out{EVIL}")).code == 1
    assert are_clean(folder)


def test_a_run(images, write, aigc, folder):
    args = {"root": str(images), "size": 8, "channels": 1, "batch_size": 8, "max_bad": 0.1}
    data = {"data": {"class_path": "image_folder", "init_args": args}}
    model = {"model": {"class_path": "dcgan", "init_args": {"conditioning": "concatenation"}}}
    config = write("evil.yaml", data, model)
    run = f"run{EVIL}".replace("\n", "")
    assert is_clean(aigc("fit", "--config", config, "--run", run, "--trainer.max_steps", 3)).code == 0
    for command in (
        ["sample", run, "--seeds", "0,1", "--class", f"0{EVIL}", "--out", f"out{EVIL}"],
        ["sample", run, "--class", EVIL],
        ["sample", f"no{EVIL}"],
        ["interpolate", run, "--class", f"1{EVIL}", "--seeds", "0,1", "--frames", 1, "--out", f"w{EVIL}.gif"],
        ["fit", "--config", config, "--run", run, "--resume", "--trainer.max_steps", 3],
        ["validate", "--checkpoint", run, f"--data.{EVIL}", 3],
        [EVIL],
        ["plugins", "show", EVIL],
        ["job", "slurm", "--config", config, "--time", EVIL],
    ):
        is_clean(aigc(*command))
    assert are_clean(folder)


def test_a_record(trained, aigc, folder):
    run = folder / "run"
    shutil.copytree(trained, run)
    path = run / "checkpoints" / "last.ckpt"
    for key, value in {"class_path": EVIL, "versions": {EVIL: EVIL}, "config": {EVIL: EVIL}, "spec": {EVIL: 1}}.items():
        checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
        checkpoint[RECORD_KEY][key] = value
        torch.save(checkpoint, path)
        for command in (["sample"], ["export"], ["evaluate"], ["fit", "--resume"], ["validate", "--checkpoint"]):
            assert is_clean(aigc(*command, run)).code in (0, 2)
    (run / "evaluation").mkdir(exist_ok=True)
    section = {"kind": "pairs", "scores": {EVIL: 1.0}, "protocol": {EVIL: EVIL}, "baseline_name": EVIL}
    for name in ("a", "b"):
        scores = {"name": EVIL, "sections": [section], "protocol_version": 1, "model": {}, "versions": {}}
        (folder / f"{name}.json").write_text(json.dumps(scores))
    assert r"\x1b[2J" in is_clean(aigc("compare", "a.json", "b.json")).out
    (folder / "b.json").write_text((folder / "b.json").read_text().replace("forged", "other"))
    assert is_clean(aigc("compare", "a.json", "b.json")).code == 2


def test_a_report(judge, images, aigc, folder):
    for name in ("real", "fake"):
        shutil.copytree(images, folder / f"{name}{EVIL}", ignore=shutil.ignore_patterns("bad*"))
    options = ["--fake", f"fake{EVIL}", "--real", f"real{EVIL}", "--extractor", judge, "--out", f"scores{EVIL}"]
    assert is_clean(aigc("evaluate", *options, "--metrics", "psnr")).code == 0
    page = next(folder.rglob("report.html")).read_text()
    assert r"fake" in page and r"\x1b[2J" in page and "\x1b" not in page and "\u202e" not in page
