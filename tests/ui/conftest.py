"""A server of the page over a folder with one finished run, asked without a socket."""

import shutil
import time

import pytest

pytest.importorskip("starlette", reason="the extra ui is not installed")
pytest.importorskip("httpx", reason="starlette's TestClient needs httpx")

TOKEN, HOST = "a-secret", "127.0.0.1:8188"


@pytest.fixture(scope="session")
def runs(trained, tmp_path_factory):
    """Return a folder of runs: `trained/1`, a copy of the finished run, and a folder beside it that is secret."""
    root = tmp_path_factory.mktemp("ui") / "runs"
    shutil.copytree(trained, root / "trained" / "1")
    (root.parent / "secret").mkdir()
    (root.parent / "secret" / "secret.png").write_bytes((root / "trained" / "1" / "losses.png").read_bytes())
    return root


@pytest.fixture(scope="session")
def make_client(runs):
    """Return a function that makes a client of a server with settings; it has no token yet."""
    from starlette.testclient import TestClient

    from aigc_lightning.ui.server import Settings, application

    def make(**settings):
        given = {"root": runs, "token": TOKEN, "hosts": frozenset({HOST}), "port": 8188, **settings}
        return TestClient(application(Settings(**given)), base_url=f"http://{HOST}")

    return make


@pytest.fixture(scope="session")
def client(make_client):
    """Return a client that has opened the printed address."""
    with make_client() as made:
        assert made.get("/", params={"token": TOKEN}).status_code == 200
        yield made


@pytest.fixture
def finished(client):
    """Return a function that starts a call and returns what its job has become."""

    def finish(path, values, on=client):
        started = on.post(path, json=values)
        assert started.status_code == 200, started.text
        until = time.monotonic() + 60
        while time.monotonic() < until:
            job = on.get("/api/job", params={"id": started.json()}).json() | {"id": started.json()}
            if job["state"] in ("done", "failed", "cancelled"):
                return job
            time.sleep(0.02)
        raise AssertionError("the job does not end")

    return finish
