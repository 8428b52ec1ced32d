"""Every private name of Lightning, jsonargparse and FSDP2 that this package uses: a test forbids them elsewhere.

Tested with Lightning 2.6.6 and jsonargparse 4.53; pyproject.toml keeps out the next versions until they have been
tried. Each entry says why no public name will do, and what to do when the private one is gone. tests/test_compat.py
shows for each that it is there and acts as is said here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Literal, NamedTuple, cast

import lightning.pytorch as pl
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning.pytorch.trainer.states import TrainerFn

# ---- jsonargparse, which is imported in functions: models and data do without it


class Argument(NamedTuple):
    """An argument of a parser that has a declared type."""

    name: str
    declared: Any
    default: Any


def typed_arguments(parser: Any) -> Iterator[Argument]:
    """Yield the arguments of a parser of jsonargparse, the help of classes included (`model.help`).

    `_actions`, `_typehint`: what a config may hold at a place depends on its declared type, and jsonargparse alone
    knows the arguments that a class hands on to its bases. Gone: read them from `inspect.signature` of each base.
    """
    for action in parser._actions:
        if hasattr(action, "_typehint"):
            yield Argument(action.dest, action._typehint, action.default)


def forget_import_paths() -> None:
    """Forget what values may name and may not, jsonargparse's own list included.

    `parsing_settings`: `set_parsing_settings` adds entries but takes none back, so a command that trusts its config
    could not follow one that does not in the same process. Gone: let such a command start another process.
    """
    from jsonargparse import _common

    _common.parsing_settings["import_path_verdicts"] = {}


# ---- torch: exported programs


def for_all_sizes() -> AbstractContextManager[None]:
    """Let `torch.export` trace without asking whether sizes are 1, whose answers would hold for some sizes only.

    `fx.experimental._config.backed_size_oblivious`: `Dim.DYNAMIC` keeps such answers as guards, among them that the
    smallest feature maps of a U-Net have one row, and the program then refuses other sizes. Gone: leave it out; such
    programs are refused by their comparison with the model.
    """
    from torch.fx.experimental import _config

    config: Any = _config  # its types lack what is added when it is imported
    return cast(AbstractContextManager[None], config.patch(backed_size_oblivious=True))


# ---- torch: sharded networks


def initialize_sharding(network: Any) -> None:
    """Prepare a network sharded by `fully_shard` as a whole, as its first forward pass would.

    `_get_fsdp_state`, `_lazy_init`: if a part of it runs before the whole does, torch takes that part for a network of
    its own and refuses the whole. Gone: run the whole network once on an example.
    """
    network._get_fsdp_state()._lazy_init()


# ---- Lightning: hooks

#: The attribute that Lightning sets on the model before and after every hook. `nn.Module.__setattr__` looks through all
#: parameters, buffers and modules first, which takes longer than a small step's hooks. Gone: nothing to do.
HOOK_NAME = "_current_fx_name"


def skip_signal_broadcast(trainer: pl.Trainer) -> None:
    """Keep the trainer from asking the first process at every batch whether it got SIGTERM.

    `_broadcast_sigterm_tensor`: the answer makes each batch wait for the device, and `Interruption` asks by itself.
    Gone: see whether Lightning still asks, as the test does, and what turns it off.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing(*_: Any) -> None:
    """Take the place of what Lightning does."""


# ---- Lightning: how processes start


def start_method(strategy: DDPStrategy) -> Literal["popen", "spawn", "fork", "forkserver"]:
    """Return how a strategy starts its processes.

    `_start_method`: the constructor's argument is kept nowhere else. Gone: build strategies from their names alone.
    """
    return strategy._start_method


def start_by_popen(strategy: DDPStrategy) -> None:
    """Make a strategy start its processes as copies of the command, in place; see `start_method`."""
    strategy._start_method = "popen"


def timeout(strategy: DDPStrategy) -> timedelta | None:
    """Return how long the processes of a strategy wait for one another.

    `_timeout`: the constructor's argument is kept nowhere else. Gone: build strategies from their names alone.
    """
    return strategy._timeout


def set_timeout(strategy: DDPStrategy, seconds: int) -> None:
    """Set how long the processes wait for one another, before they meet; see `timeout`."""
    strategy._timeout = timedelta(seconds=seconds)


def starts_copies(launcher: Any) -> bool:
    """Return whether a launcher starts copies of the command, or belongs to such a copy.

    `_SubprocessScriptLauncher`: there is no public name of this launcher, whose `procs` and `cluster_environment` are
    public. Gone: look for these two attributes.
    """
    return isinstance(launcher, _SubprocessScriptLauncher)


class LauncherOfItsOwn(DDPStrategy):
    """DDP that may bring its own launcher.

    `_configure_launcher`, `_launcher`: Lightning chooses the launcher by the start method. Gone: `launcher` is a
    property that can be overridden.
    """

    def own_launcher(self, start_method: str) -> Any:
        """Return the launcher for a start method; None for Lightning's."""
        return None

    def _configure_launcher(self) -> None:
        own = self.own_launcher(self._start_method)
        super()._configure_launcher()  # which also notes that there is one
        if own is not None:
            self._launcher = own


class ProcessLauncher(_MultiProcessingLauncher):
    """Lightning's launcher of spawned processes, with public methods to override.

    `_MultiProcessingLauncher`, `_wrapping_function`, `_collect_rank_zero_results`, `_recover_results_in_main_process`:
    Lightning offers no start by "spawn" whose processes hear signals or leave their weights in the run's folder. Gone:
    turn "spawn" into "popen", as `started_safely` does for some models.

    Args:
        strategy: whose processes are started.
        start_method: "spawn" or "forkserver".
    """

    def __init__(self, strategy: Any, start_method: Any) -> None:
        super().__init__(strategy, start_method=start_method)
        self.strategy: Any = strategy
        self.start_method: str = start_method

    def run(self, process_index: int, function: Callable[[], None]) -> None:
        """Call the function that does a process's work, in that process."""
        function()

    def weights_path(self, trainer: pl.Trainer) -> Any:
        """Return where the first process has left the weights after training; None for nowhere."""
        return None

    def take_weights(self, path: Any, trainer: pl.Trainer) -> None:
        """Give the model of the process that started the others the weights that `weights_path` names."""

    def _wrapping_function(self, process_idx: int, *args: Any, **kwargs: Any) -> None:
        work = super()._wrapping_function
        self.run(process_idx, lambda: work(process_idx, *args, **kwargs))

    def _collect_rank_zero_results(self, trainer: pl.Trainer, results: Any) -> Any:
        function, trainer.state.fn = trainer.state.fn, None  # else Lightning leaves the weights in a temporary folder
        try:
            output = super()._collect_rank_zero_results(trainer, results)
        finally:
            trainer.state.fn = function
        if output is None or function != TrainerFn.FITTING:
            return output
        return output._replace(weights_path=self.weights_path(trainer))

    def _recover_results_in_main_process(self, worker_output: Any, trainer: pl.Trainer) -> None:
        path = worker_output.weights_path
        super()._recover_results_in_main_process(worker_output._replace(weights_path=None), trainer)
        if path is not None:
            self.take_weights(path, trainer)
