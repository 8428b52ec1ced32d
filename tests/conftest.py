"""One thread, no network, a folder of its own for each test, and `aigc` in this process (imports take seconds)."""

import os

# Before torch is imported, and for the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import conditional_models
import pytest
import torch
import yaml
from filelock import FileLock
from hypothesis import settings

from aigc_lightning import plugins
from aigc_lightning.cli import main
from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.core.run.folder import RUN_VARIABLE
from aigc_lightning.core.spec import ImageSpec

torch.set_num_threads(1)
settings.register_profile("shared", deadline=None)  # shared machines have slow moments
settings.load_profile("shared")


@dataclass(frozen=True)
class Outcome:
    """What a command left on the screen."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


Aigc = Callable[..., Outcome]
Config = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the current one during the test."""
    monkeypatch.chdir(tmp_path)
    for name in (RUN_VARIABLE, "PL_GLOBAL_SEED", "AIGC_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def aigc(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Aigc]:
    """Run `aigc` in this process; an error that it does not catch fails the test."""

    def run(*argv: object) -> Outcome:
        capfd.readouterr()
        for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
            for handler in logging.getLogger(name).handlers:
                if type(handler) is logging.StreamHandler:  # it knows the stream of an earlier test
                    monkeypatch.setattr(handler, "stream", sys.stderr)
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as exit_:  # --help and --print_config
            code = 0 if exit_.code is None else int(exit_.code)
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    yield run
    if torch.distributed.is_initialized():  # by a run on several devices, whose group Lightning leaves behind
        torch.distributed.destroy_process_group()


@pytest.fixture
def aigc_process(folder: Path) -> Aigc:
    """Run a Python module or program in a process of its own."""

    def run(*command: object, timeout: float = 120) -> Outcome:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=timeout, check=False, cwd=folder
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def script() -> Path:
    """Return the installed `aigc`."""
    return Path(sys.executable).with_name("aigc")


@pytest.fixture
def tiny_config() -> Config:
    """Return a valid config that trains in a tenth of a second; the nets have no batch statistics."""
    return {
        "model": {
            "class_path": "dcgan",
            "init_args": {"latent_size": 4, "width": 8, "generator_norm": "group", "discriminator_norm": "group"},
        },
        "data": {"class_path": "digits", "init_args": {"size": 8, "batch_size": 300}},
        # The precision that processors choose by themselves differs from one to the other.
        "trainer": {
            "max_steps": 3,
            "accelerator": "cpu",
            "precision": "32-true",
            "limit_val_batches": 1,
            "log_every_n_steps": 1,
        },
        "grids": {"num": 4},
    }


@pytest.fixture
def write(folder: Path, tiny_config: Config) -> Callable[..., Path]:
    """Write the tiny config with changes into the current folder: write("name.yaml", {"trainer": ...})."""

    def make(name: str, *changes: Config) -> Path:
        config = tiny_config
        for change in changes:
            config = _merged(config, change)
        (folder / name).write_text(yaml.safe_dump(config), encoding="utf-8")
        return Path(name)

    return make


def _merged(old: Config, new: Config) -> Config:
    result = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


@pytest.fixture
def tiny(write: Callable[..., Path]) -> Path:
    """Return the path of the tiny config: five batches an epoch, three steps."""
    return write("tiny.yaml")


@pytest.fixture
def differing() -> Callable[[Path, Path], list[str]]:
    """Return the names of all that differs in two checkpoints: weights, averages, optimizers, schedulers, step."""

    def compare(one: Path, other: Path) -> list[str]:
        first, second = _flat(one), _flat(other)
        assert len(first) > 20 and first.keys() == second.keys()
        return [key for key in first if not torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key]))]

    return compare


def _flat(path: Path) -> dict[str, Any]:
    checkpoint = torch.load(path, weights_only=True)
    flat = {**checkpoint["state_dict"], "global_step": checkpoint["global_step"]}
    for number, optimizer in enumerate(checkpoint["optimizer_states"]):
        for key, state in optimizer["state"].items():
            flat.update({f"optimizer.{number}.{key}.{name}": value for name, value in state.items()})
        flat.update({f"optimizer.{number}.lr": [group["lr"] for group in optimizer["param_groups"]]})
    return flat


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train once in a session, whichever of its processes and tests asks first; nobody may write into the folder."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder in that of all
        root = root.parent

    def train(name: str, **options: object) -> Path:
        folder = root / "shared_runs" / name
        folder.parent.mkdir(exist_ok=True)
        done = folder.with_suffix(".done")
        with FileLock(folder.with_suffix(".lock")):
            if not done.exists():
                fit = {**options, "trainer.accelerator": "cpu", "trainer.precision": "32-true", "run": folder}
                assert main(["fit", *(f"--{key}={value}" for key, value in fit.items())]) == 0
                done.touch()
        return folder

    return train


@pytest.fixture(scope="session")
def trained(shared_run: Callable[..., Path]) -> Path:
    """Return the folder of a finished run, long enough that samples differ."""
    model = {"model": "dcgan", "model.latent_size": 4, "model.width": 8}
    rates = {"model.generator_lr": 0.01, "model.discriminator_lr": 0.01}
    data = {"data": "digits", "data.size": 8, "data.batch_size": 300}
    return shared_run("trained", **model, **data, **rates, **{"trainer.max_steps": 40, "grids.num": 4})


@pytest.fixture(scope="session")
def judge(shared_run: Callable[..., Path]) -> Path:
    """Return the folder of a classifier of 8x8 digits that knows about 95 % of them."""
    model = {"model": "cnn", "model.width": 8, "data": "digits", "data.size": 8}
    return shared_run("judge", **model, **{"trainer.max_steps": 150, "trainer.limit_val_batches": 0})


class QuietServer(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *parts: object) -> None:
        pass


@pytest.fixture
def quiet_server() -> type[QuietServer]:
    """Return the handler of a server for a folder, to derive from."""
    return QuietServer


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Start a server for a folder or a handler; return its address."""
    monkeypatch.setenv("no_proxy", "*")
    servers = []

    def start(served: Path | Callable[..., BaseHTTPRequestHandler]) -> str:
        handler = partial(QuietServer, directory=str(served)) if isinstance(served, Path) else served
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Site:
    """A folder of packages as pip would leave it; every module of it leaves a mark when it is imported."""

    _MARK = "__import__('pathlib').Path(__file__ + '.imported').touch()\n"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def install(
        self,
        name: str,
        points: Mapping[str, Mapping[str, str]],
        files: Mapping[str, str],
        *,
        version: str = "1.0",
        requires: Sequence[str] = (),
        marked: bool = True,
    ) -> None:
        """Write a package: its metadata, {group: {name: value}} and {path: text}."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: A fake.", ""]
        head[-1:] = [*(f"Requires-Dist: {text}" for text in requires), ""]
        (info / "METADATA").write_text("\n".join(head), encoding="utf-8")
        lines = [
            line
            for group, entries in points.items()
            for line in (f"[aigc_lightning.{group}]", *(f"{entry} = {value}" for entry, value in entries.items()), "")
        ]
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
        for path, text in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text((self._MARK if marked and target.suffix == ".py" else "") + text, encoding="utf-8")
        plugins.forget()

    @property
    def imported(self) -> list[str]:
        """The modules that were imported, by path, in any process."""
        return sorted(
            path.relative_to(self.folder).as_posix().removesuffix(".imported")
            for path in self.folder.rglob("*.imported")
        )


@pytest.fixture
def site(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Return an empty folder of packages that is searched first, in this process and in those that tests start."""
    site = Site(folder / "site")
    monkeypatch.syspath_prepend(site.folder)
    monkeypatch.setenv("PYTHONPATH", str(site.folder))
    yield site
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    sys.path.remove(str(site.folder))
    plugins.forget()
    sys.path.insert(0, str(site.folder))  # the monkeypatch takes it away


@pytest.fixture
def conditional(site: Site, folder: Path) -> Callable[..., Path]:
    """Install the models of `tests/helpers`; return a function that writes an untrained one and returns its file."""
    names = ("Painter", "Filler", "Doubler")
    points = {"models": {name.lower(): f"conditional_models:{name}" for name in names}}
    site.install("aigc-conditional-fakes", points, {})

    def write(name: str, **spec: Any) -> Path:
        seed = torch.random.get_rng_state()
        torch.manual_seed(0)
        shape = {"channels": 3, "height": 16, "width": 16, "captions": True, "masks": True}
        made = getattr(conditional_models, name)(ImageSpec(**{**shape, **spec}))
        torch.random.set_rng_state(seed)
        save_weights(made, folder / f"{name}.safetensors", {})
        return folder / f"{name}.safetensors"

    return write


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return headless Chromium; skip where there is none."""
    started = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed").sync_playwright()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium on the path")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0  # Chromium has no sandbox for it
    with started as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] if is_root else [])
        yield opened
        opened.close()
