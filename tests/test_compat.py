"""Private names of Lightning and jsonargparse: those that are touched are there, and nothing but compat.py does it."""

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonargparse
import lightning
import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.nn import functional

import aigc_lightning
from aigc_lightning import compat
from aigc_lightning.data.sets.digits import Digits

PACKAGE = Path(aigc_lightning.__file__).parent
LIBRARIES = [Path(lightning.__file__).parent, Path(jsonargparse.__file__).parent]


def test_the_versions_are_those_that_compat_names():
    for name, tested in re.findall(r"(Lightning|jsonargparse) (\d+\.\d+)", compat.__doc__):
        assert version(name.lower()).startswith(f"{tested}.")


# ---- torch


def test_a_trace_for_all_sizes_does_not_ask_whether_a_size_is_1():
    class Halved(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.group_norm(x[:, :, ::2, ::2], 1)

    def outcome() -> str:
        x = torch.randn(2, 3, 2, 3)
        dynamic = (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
        try:
            program = torch.export.export(Halved(), (x,), dynamic_shapes=dynamic, strict=False).module()
            return str(program(torch.randn(2, 3, 8, 8)).shape[-1])
        except (AssertionError, RuntimeError):
            return "refused"

    with compat.for_all_sizes():
        assert outcome() == "4"
    assert outcome() == "refused"


# ---- jsonargparse


class Base:
    def __init__(self, inner: Digits | None = None, width: int = 3):
        pass


class Derived(Base):
    def __init__(self, depth: float = 0.5, **more):
        super().__init__(**more)


def test_typed_arguments_are_those_of_the_bases_as_well():
    parser = jsonargparse.ArgumentParser()
    parser.add_class_arguments(Derived)
    found = {argument.name: argument for argument in compat.typed_arguments(parser)}
    assert {"depth", "inner", "width"} <= set(found)
    assert (found["width"].declared, found["width"].default) == (int, 3)
    assert set(found["inner"].declared.__args__) == {Digits, type(None)}


def test_what_values_may_name_can_be_taken_back(monkeypatch):
    from jsonargparse import _common

    monkeypatch.setitem(_common.parsing_settings, "import_path_verdicts", {})

    def may_name() -> bool:
        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument("--lead", type=Base)
        try:
            return bool(parser.parse_args([f"--lead={__name__}.Derived"]))
        except jsonargparse.ArgumentError as error:
            assert "not allowed" in str(error)
            return False

    monkeypatch.setitem(__import__("sys").modules, __name__, SimpleNamespace(Derived=Derived, Base=Base))
    assert may_name()
    jsonargparse.set_parsing_settings(import_path_denylist=["*"])
    assert not may_name()
    compat.forget_import_paths()
    assert may_name()


# ---- Lightning


class Model(pl.LightningModule):
    """Notes which attributes are set on it while it trains."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def __setattr__(self, name, value):
        self.__dict__.setdefault("seen", []).append((name, value))
        super().__setattr__(name, value)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        samples: Any = torch.ones(4, 1)
        return torch.utils.data.DataLoader(samples)


@pytest.fixture
def quiet(tmp_path):
    """Return the arguments of a trainer that only trains."""
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return {"accelerator": "cpu", "max_steps": 2, "default_root_dir": tmp_path, **off}


def test_a_sharded_network_is_initialized_as_a_whole():
    from torch.distributed.fsdp import FSDPModule

    done = []

    class Sharded(FSDPModule):
        def __new__(cls):
            return object.__new__(cls)

        def _get_fsdp_state(self):
            return SimpleNamespace(_lazy_init=lambda: done.append(True))

    assert callable(FSDPModule._get_fsdp_state)  # the distributed tests run the real one
    compat.initialize_sharding(Sharded())
    assert done == [True]


def test_the_hooks_name_is_set_on_the_model(quiet):
    model = Model()
    pl.Trainer(**quiet).fit(model)
    assert (compat.HOOK_NAME, "training_step") in vars(model)["seen"]


@pytest.fixture
def group():
    """Let this process be a group of its own."""
    store = getattr(torch.distributed, "HashStore")()  # noqa: B009  # which torch does not export by its types
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_lightning_asks_about_signals_until_it_is_told_not_to(quiet, group, monkeypatch):
    asked = []
    epoch = import_module("lightning.pytorch.loops.training_epoch_loop")._TrainingEpochLoop
    monkeypatch.setattr(epoch, "_broadcast_sigterm_tensor", lambda self: asked.append(self))
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    trainer = pl.Trainer(**quiet)
    trainer.fit(Model())
    assert len(asked) == 2
    trainer = pl.Trainer(**quiet)
    compat.skip_signal_broadcast(trainer)
    trainer.fit(Model())
    assert len(asked) == 2 and trainer.global_step == 2


def test_how_processes_start_and_how_long_they_wait():
    strategy = DDPStrategy(start_method="spawn", timeout=timedelta(seconds=5))
    assert (compat.start_method(strategy), compat.timeout(strategy)) == ("spawn", timedelta(seconds=5))
    compat.start_by_popen(strategy)
    compat.set_timeout(strategy, 7)
    assert (compat.start_method(strategy), compat.timeout(strategy)) == ("popen", timedelta(seconds=7))


def test_the_timeout_is_used_when_the_processes_meet(monkeypatch):
    used = []
    module = inspect.getmodule(DDPStrategy)
    monkeypatch.setattr(module, "_init_dist_connection", lambda *_, **options: used.append(options["timeout"]))
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    assert isinstance(trainer.strategy, DDPStrategy)
    compat.set_timeout(trainer.strategy, 7)
    trainer.strategy.setup_distributed()
    assert used == [timedelta(seconds=7)]


@pytest.mark.parametrize(("method", "own"), [("popen", False), ("spawn", True)])
def test_a_strategy_may_bring_its_launcher(method, own):
    class Strategy(compat.LauncherOfItsOwn):
        def own_launcher(self, start_method):
            return compat.ProcessLauncher(self, start_method) if start_method == "spawn" else None

    strategy = Strategy(start_method=method)
    pl.Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_checkpointing=False)
    assert isinstance(strategy.launcher, compat.ProcessLauncher) == own
    assert compat.starts_copies(strategy.launcher) != own


def test_launchers_have_what_is_read_of_them():
    environment: Any = SimpleNamespace(creates_processes_externally=False)
    launcher = _SubprocessScriptLauncher(environment, num_processes=1, num_nodes=1)
    assert launcher.procs == [] and launcher.cluster_environment is environment
    assert compat.ProcessLauncher(DDPStrategy(), "spawn").procs == []


class Launcher(compat.ProcessLauncher):
    """Notes what Lightning has it do."""

    def __init__(self, strategy):
        super().__init__(strategy, "spawn")
        self.ran, self.taken = [], []

    def run(self, process_index, function):
        self.ran.append(process_index)
        function()

    def weights_path(self, trainer):
        return "weights"

    def take_weights(self, path, trainer):
        self.taken.append(path)


@pytest.mark.parametrize(("stage", "path"), [(TrainerFn.FITTING, "weights"), (TrainerFn.VALIDATING, None)])
def test_a_launcher_runs_a_process_and_hands_its_weights_on(stage, path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    strategy = SimpleNamespace(local_rank=0, num_processes=1, accelerator=None, checkpoint_io=None)
    state = SimpleNamespace(fn=stage)
    trainer: Any = SimpleNamespace(
        state=state, checkpoint_callback=None, callback_metrics={}, lightning_module=nn.Linear(1, 1)
    )
    results_sent: list[Any] = []
    sent = SimpleNamespace(put=results_sent.append)
    launcher = Launcher(strategy)
    # As Lightning does in the process that it starts, and then in the one that waits for it. Had Lightning saved the
    # weights by itself, there would have been an error: the strategy cannot.
    launcher._wrapping_function(0, trainer, lambda number: number + 1, (1,), {}, sent)
    (results,) = results_sent
    assert launcher.ran == [0] and (results.trainer_results, results.weights_path) == (2, path)
    assert state.fn == stage
    launcher._recover_results_in_main_process(results, trainer)
    assert launcher.taken == ([path] if path else [])


def test_lightning_starts_its_processes_by_the_methods_that_are_overridden():
    source = inspect.getsource(_MultiProcessingLauncher)
    for name in ("_wrapping_function", "_collect_rank_zero_results", "_recover_results_in_main_process"):
        assert f"self.{name}" in source and name in vars(compat.ProcessLauncher)


def test_nothing_is_left_to_do_for_the_command_line_of_lightning():
    """Public names are enough: methods named after stages, and no option from which a checkpoint would be read."""
    from aigc_lightning.training.cli import TrainingCLI

    cli: Any = SimpleNamespace(stage="fit")
    assert "ckpt_path" in TrainingCLI.subcommands(cli)["fit"]
    for stage in ("fit", "validate", "test", "predict"):
        assert stage in vars(TrainingCLI)


# ---- nothing but compat.py


def sources() -> list[Path]:
    """Return all files but compat.py, those of the plugins included."""
    found = [*PACKAGE.rglob("*.py"), *PACKAGE.parent.glob("plugins/*/src/**/*.py")]
    assert len(found) > 250
    return [path for path in found if path != Path(compat.__file__)]


@cache
def private_names() -> frozenset[str]:
    """Return the private names that the libraries give to attributes, functions and classes."""
    pattern = re.compile(r"(?:\bdef |\bclass |\bself\.|^)(_[a-zA-Z]\w*)", re.MULTILINE)
    texts = (path.read_text(encoding="utf-8") for library in LIBRARIES for path in library.rglob("*.py"))
    return frozenset(name for text in texts for name in pattern.findall(text))


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a file imports from the libraries."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def defined(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that a file gives to things of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node):
            yield node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def touched(text: str) -> set[str]:
    """Return the private names of the libraries that a file touches."""
    tree = ast.parse(text)
    found = set()
    for name in imports(tree):
        library, *parts = name.split(".")
        if library in ("lightning", "pytorch_lightning", "lightning_fabric", "jsonargparse"):
            found |= {part for part in parts if part.startswith("_")}
    own = set(defined(tree)) | PUBLIC
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in private_names() - own and not is_own(node):
            found.add(node.attr)
        if isinstance(node, ast.Constant) and node.value in named_in_compat():
            found.add(str(node.value))
    return found


#: Names with an underscore that are public all the same, or that belong to torch.
PUBLIC = {"_replace", "_asdict", "_buffers", "_foreach_lerp_", "_exit", "_workers"}


@cache
def named_in_compat() -> frozenset[str]:
    tree = ast.parse(Path(compat.__file__).read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return frozenset({compat.HOOK_NAME, *(name for name in names if re.match("_[a-z]", name))} - PUBLIC)


#: Of argparse, whose parsers have no list of their options either.
ARGPARSE = {"command_line.py": {"_actions", "_negative_number_matcher"}}


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_private_names_are_touched_in_compat_alone(path):
    assert touched(path.read_text(encoding="utf-8")) <= ARGPARSE.get(path.name, set())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from lightning.pytorch.strategies.launchers import _Launcher", "_Launcher"),
        ("from jsonargparse._typehints import ActionTypeHint", "_typehints"),
        ("import jsonargparse._core", "_core"),
        ("def f(trainer): trainer.strategy._timeout = 3", "_timeout"),
        ("def f(parser): return [action.dest for action in parser._actions]", "_actions"),
        ("class A(B):\n    def f(self): super()._run_stage()", "_run_stage"),
        ("def f(model): setattr(model, '_current_fx_name', None)", "_current_fx_name"),
    ],
)
def test_the_search_finds_what_there_is_to_find(text, name):
    assert touched(text) == {name}


def derived() -> list[type]:
    """Return the classes of this package that derive from those of the libraries."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        module = import_module(
            ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        )
        found |= {each for each in vars(module).values() if inspect.isclass(each) and bases(each)}
    return sorted((each for each in found if each.__module__.startswith(PACKAGE.name)), key=str)


def bases(each: type) -> list[type]:
    return [base for base in each.__mro__ if base.__module__.split(".")[0] in ("lightning", "jsonargparse")]


def test_no_class_has_a_private_name_of_its_base_in_a_library():
    found = derived()
    assert len(found) > 30
    pattern = re.compile(r"(?:\bdef |\bself\.)(_[a-z]\w*)")
    clashing = {}
    for each in found:
        theirs = {name for base in bases(each) for name in pattern.findall(inspect.getsource(base))}
        both = theirs & set(pattern.findall(inspect.getsource(each)))
        if both and each.__module__ != compat.__name__:
            clashing[each.__name__] = both
    assert clashing == {}
