"""What the panels ask for is what the commands would give."""

import gc
import json
import shutil
import socket
import sys
import threading
import time

import pytest
from PIL import Image

from aigc_lightning.callbacks import metrics_file
from aigc_lightning.cli import main
from aigc_lightning.core.run.lock import RunLock
from aigc_lightning.errors import UserError
from aigc_lightning.ui.models import Models
from aigc_lightning.ui.runs import Runs
from aigc_lightning.ui.server import Page, Settings
from aigc_lightning.ui.worker import BusyError, CancelledError, Worker

LAST = "trained/1/checkpoints/last.ckpt"


def ended(job):
    until = time.monotonic() + 30
    while job.state in ("waiting", "working") and time.monotonic() < until:
        time.sleep(0.01)
    return job.state


def test_a_server_that_never_served_leaves_no_folder(tmp_path):
    page = Page(Settings(tmp_path, "token", frozenset(), 0))
    folder = page.folder
    assert folder.is_dir()
    del page
    gc.collect()
    assert not folder.exists()


def test_a_run_is_listed_with_its_state_by_the_lock(client, runs):
    [run] = client.get("/api/runs").json()
    assert (run["run"], run["state"], run["step"], run["steps"]) == ("trained/1", "finished", 40, 40)
    assert run["model"] == "DCGAN" and run["checkpoints"][0] == "checkpoints/last.ckpt"
    lock = RunLock(runs / "trained" / "1")
    try:
        assert client.get("/api/runs").json()[0]["state"] == "running"
    finally:
        lock.release()
    assert client.get("/api/runs").json()[0]["state"] == "finished"


@pytest.mark.parametrize(
    ("ending", "state"),
    [("ERROR End: ValueError", "failed"), ("INFO End: KeyboardInterrupt", "stopped"), ("", "stopped")],
)
def test_a_log_says_how_a_run_ended(client, runs, ending, state):
    log = runs / "trained" / "1" / "log.txt"
    before = log.read_text(encoding="utf-8")
    try:
        log.write_text(f"2026-01-01 INFO Start: aigc fit\n2026-01-01 {ending}\n", encoding="utf-8")
        assert client.get("/api/run", params={"run": "trained/1"}).json()["state"] == state
    finally:
        log.write_text(before, encoding="utf-8")


def test_curves_grids_log_and_config_of_a_run(client, runs):
    detail = client.get("/api/run", params={"run": "trained/1"}).json()
    assert detail["grids"] == ["grids/step_000000.png", "grids/step_000040.png"]
    assert "End: finished" in detail["log"] and "class_path" in detail["config"]
    steps, values = client.get("/api/metrics", params={"run": "trained/1"}).json()["train/generator_loss"]
    assert len(steps) == len(values) and detail["last"]["train/generator_loss"] == values[-1]
    shown = client.get("/api/file", params={"run": "trained/1", "path": detail["grids"][1]})
    assert shown.content == (runs / "trained" / "1" / "grids" / "step_000040.png").read_bytes()


def test_curves_are_read_again_when_their_file_has_changed(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "aigc_lightning.ui.runs.read_metrics", lambda path: reads.append(path) or metrics_file.read_metrics(path)
    )
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "metrics.csv"
    path.write_text("step,train/loss\n1,2\n", encoding="utf-8")
    (tmp_path / "run" / "config.yaml").write_text("trainer: {max_steps: 9}\n", encoding="utf-8")
    runs = Runs(tmp_path)
    for _ in range(3):
        assert runs.metrics("run") == {"train/loss": ([1], [2.0])}
        assert [(run["step"], run["steps"]) for run in runs.summaries()] == [(1, 9)]
    assert len(reads) == 1
    path.write_text("step,train/loss\n1,2\n2,3\n", encoding="utf-8")
    assert runs.summary("run")["last"] == {"train/loss": 3.0} and len(reads) == 2


def test_pages_of_commands_are_found_in_a_run(client, runs):
    folder = runs / "trained" / "1" / "explained"
    folder.mkdir()
    try:
        (folder / "explanation.html").write_text("<p>Why.</p>", encoding="utf-8")
        assert "explained/explanation.html" in client.get("/api/run", params={"run": "trained/1"}).json()["reports"]
        shown = client.get("/api/file", params={"run": "trained/1", "path": "explained/explanation.html"})
        assert shown.text == "<p>Why.</p>" and shown.headers["content-security-policy"].startswith("sandbox")
    finally:
        shutil.rmtree(folder)


def test_answers_do_not_wait_for_full_packets():
    from aigc_lightning.commands.ui import _listen

    with _listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP  # asyncio then sets TCP_NODELAY


def test_configs_are_compared_line_by_line(client, runs):
    other = runs / "other"
    other.mkdir()
    config = (runs / "trained" / "1" / "config.yaml").read_text(encoding="utf-8")
    (other / "config.yaml").write_text(config.replace("latent_size: 4", "latent_size: 5"), encoding="utf-8")
    (other / "metrics.csv").write_text("step,train/loss\n1,nan\n", encoding="utf-8")
    lines = client.get("/api/difference", params={"run": "trained/1", "with": "other"}).json()
    assert [line.strip() for line in lines if line[0] in "+-" and "latent" in line] == [
        "-    latent_size: 4",
        "+    latent_size: 5",
    ]
    assert client.get("/api/metrics", params={"run": "other"}).json() == {"train/loss": [[1], [None]]}
    for path in other.iterdir():
        path.unlink()
    other.rmdir()


def test_samples_are_those_of_the_command_with_their_provenance(client, finished, runs, tmp_path):
    about = finished("/api/describe", {"checkpoint": LAST})["answer"]
    assert about["name"] == "DCGAN" and about["walk"] and "edit" not in about
    job = finished("/api/sample", {"checkpoint": LAST, "seeds": "3,5"})
    assert job["state"] == "done" and job["files"] == ["000003.png", "000005.png", "grid.png"], job
    assert job["command"] == f"aigc sample {runs / LAST} --seeds 3,5 --grid"
    assert main(["sample", str(runs / LAST), "--seeds", "3,5", "--grid", "--out", str(tmp_path)]) == 0
    for name in job["files"]:
        answer = client.get("/api/result", params={"id": job["id"], "name": name})
        (tmp_path / "ours.png").write_bytes(answer.content)
        with Image.open(tmp_path / "ours.png") as ours, Image.open(tmp_path / name) as theirs:
            assert ours.tobytes() == theirs.tobytes() and ours.info["aigc"] == theirs.info["aigc"]
    assert json.loads(ours.info["aigc"])["generated"] is True
    assert client.get("/api/result", params={"id": job["id"], "name": "../x.png"}).status_code == 404


def test_a_walk_goes_from_one_seed_to_the_other(client, finished, tmp_path):
    walk = finished("/api/walk", {"checkpoint": LAST, "seeds": "3,5", "frames": 4})
    samples = finished("/api/sample", {"checkpoint": LAST, "seeds": "3,5"})
    assert len(walk["files"]) == 5

    def pixels(job, name):
        (tmp_path / name).write_bytes(client.get("/api/result", params={"id": job["id"], "name": name}).content)
        with Image.open(tmp_path / name) as image:
            return image.tobytes()

    assert pixels(walk, "000.png") == pixels(samples, "000003.png")
    assert pixels(walk, "004.png") == pixels(samples, "000005.png") != pixels(walk, "002.png")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seeds": "x"}, "seeds"),
        ({"seeds": "0-9999"}, "10000 pictures"),
        ({"seeds": "0", "options": {"a-b": "1"}}, "name of an option"),
    ],
)
def test_mistakes_are_answered_at_once(client, values, words):
    answer = client.post("/api/sample", json={"checkpoint": LAST, **values})
    assert answer.status_code == 400 and words in answer.json()["error"]


def test_mistakes_that_the_model_finds_fail_the_job(finished):
    job = finished("/api/sample", {"checkpoint": LAST, "seeds": "0", "options": {"trunc": "1"}})
    assert job["state"] == "failed" and "trunc" in job["error"]
    job = finished("/api/sample", {"checkpoint": LAST, "seeds": "0", "class": "eleven"})
    assert job["state"] == "failed" and "without classes" in job["error"]


def test_models_are_kept_by_hash_within_the_limit(runs):
    copy = runs.parent / "last.ckpt"
    copy.write_bytes((runs / LAST).read_bytes())
    roomy, narrow = Models(2**30, "cpu"), Models(1, "cpu")
    assert roomy.get(str(runs / LAST)) is roomy.get(str(copy)) and len(roomy) == 1
    first = narrow.get(str(runs / LAST))
    assert narrow.get(str(runs / LAST)) is first
    narrow.get(str(runs / "trained/1/checkpoints"))
    assert len(narrow) == 1


def test_one_call_at_a_time_in_order_and_cancellable(tmp_path):
    worker, begun, seen = Worker(tmp_path), threading.Event(), []

    def long(job):
        begun.set()
        while True:
            seen.append("long")
            time.sleep(0.01)
            job.check()

    first = worker.job(worker.add(long, ""))
    assert begun.wait(10)
    waiting = [worker.job(worker.add(lambda job: seen.append("short"), "")) for _ in range(4)]
    assert "short" not in seen
    with pytest.raises(BusyError):
        worker.add(lambda job: None, "")
    waiting[0].cancel()
    first.cancel()
    assert ended(first) == "cancelled" and ended(waiting[-1]) == "done" and waiting[0].state == "cancelled"
    assert seen.count("short") == 3


def test_a_process_is_cancelled_and_its_error_told(tmp_path):
    worker = Worker(tmp_path)
    job = worker.job(worker.add(lambda job: job.run([sys.executable, "-c", "input(); import time"], tmp_path), ""))
    assert ended(job) == "failed" and "EOF" in job.error
    job = worker.job(
        worker.add(lambda job: job.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path), "")
    )
    until = time.monotonic() + 10
    while job._process is None and time.monotonic() < until:
        time.sleep(0.01)
    job.cancel()
    assert ended(job) == "cancelled"


def test_a_model_is_interrupted_between_its_layers(runs):
    from aigc_lightning.ui.models import interruptible

    loaded = Models(2**30, "cpu").get(str(runs / LAST))

    def cancelled(*_):
        raise CancelledError

    with pytest.raises(CancelledError), interruptible(loaded.model, cancelled):
        loaded.sample([0])
    assert len(loaded.sample([0])) == 1


@pytest.mark.slow
def test_data_is_previewed_and_checked(client, finished, runs):
    job = finished("/api/data", {"action": "preview", "data": "digits", "num": 4, "options": {"size": "8"}})
    assert job["state"] == "done" and job["files"] == ["preview.png"], job
    assert job["command"] == "aigc data preview digits --num 4 --data.size=8"
    refused = client.post("/api/data", json={"action": "check", "data": "image_folder", "options": {"root": "/etc"}})
    assert refused.status_code == 400 and client.post("/api/data", json={"data": "x.yaml"}).status_code == 400


@pytest.mark.slow
def test_a_run_is_started_from_the_form_and_stopped(make_client, finished, tmp_path):
    with make_client(root=tmp_path, allow_training=True) as page:
        page.get("/", params={"token": "a-secret"})
        form = finished("/api/training/form", {"preset": "dcgan_digits"}, on=page)["answer"]
        assert (
            form["model.width"] == 16
            and form["privacy.epsilon"] is None
            and "run" not in form
            and "trainer.default_root_dir" not in form
        )
        start = {"preset": "dcgan_digits", "options": {"model.width": "8"}}
        for name in ("run", "trainer.default_root_dir"):
            bad = start | {"options": {name: "x"}}
            assert page.post("/api/training/start", json=bad).status_code == 400
        assert page.post("/api/training/start", json=start).json() == {"started": "dcgan_digits/1"}
        assert page.post("/api/training/start", json=start).json() == {"waiting": "dcgan_digits/2"}
        assert page.post("/api/training/start", json=start).status_code == 429
        until = time.monotonic() + 90
        while not page.get("/api/runs").json() or not page.get("/api/runs").json()[0]["step"]:
            assert time.monotonic() < until, page.get("/api/training").json()
            time.sleep(0.3)
        assert page.get("/api/runs").json()[0]["state"] == "running"
        page.post("/api/training/stop", json={})
        while page.get("/api/training").json()["current"]:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert page.get("/api/runs").json()[0]["state"] == "stopped"
        assert page.get("/api/training").json()["waiting"] is None
        assert (tmp_path / "dcgan_digits/1/checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize("argv", [["--port", "70000"], ["--memory", "0"], ["nowhere"], [".", "--data", "nowhere"]])
def test_the_command_refuses_mistakes(argv):
    from aigc_lightning.commands.ui import ui

    with pytest.raises(UserError):
        ui(argv)
