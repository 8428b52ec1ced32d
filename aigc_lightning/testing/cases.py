"""A plugin under test: its class, its preset, and the runs that checks share."""

import io
import random
import shutil
import signal
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml

from aigc_lightning import plugins
from aigc_lightning.config.data_section import build_data, built_arguments
from aigc_lightning.core.checkpoint import build_model, load_model, read_checkpoint
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.core.run.environment import restored_environment
from aigc_lightning.core.run.folder import CHECKPOINTS, find_checkpoint
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command
from aigc_lightning.testing.checks import CheckFailedError
from aigc_lightning.yaml_file import parse_yaml, read_yaml

#: Options that make any preset run a few steps on any machine.
_ANYWHERE = {
    "trainer.accelerator": "cpu",
    "trainer.devices": "1",
    "trainer.num_nodes": "1",
    "trainer.strategy": "auto",
    "trainer.precision": "32-true",
    "trainer.max_epochs": "-1",
    "trainer.max_time": "null",
    "trainer.check_val_every_n_epoch": "null",
    "trainer.val_check_interval": "2",
    "trainer.limit_val_batches": "1",
    "max_images": "null",
    "logger": "null",
    "grids.num": "4",
}
_STOP = "aigc_lightning.testing.stopping.StopBySignal"


@dataclass
class Case:
    """One plugin under test.

    Args:
        kind: kind of the plugin.
        name: name as written by users.
        folder: an empty folder for runs.
        settings: options for all checks, such as ("model.width=8",).
    """

    kind: plugins.Kind
    name: str
    folder: Path
    settings: Sequence[str] = ()

    @cached_property
    def plugin(self) -> plugins.Plugin:
        """The entry point."""
        return plugins.find_by_class_path(self.kind, self.name) or plugins.find(self.kind, self.name)

    @cached_property
    def target(self) -> Any:
        """The class."""
        return self.plugin.load()

    def set_values(self, section: str) -> dict[str, Any]:
        """Return the settings of a section, such as {"width": 8} for "model"."""
        pairs = (text.partition("=") for text in self.settings)
        prefix = f"{section}."
        return {
            key.removeprefix(prefix): parse_yaml(value, f"--set {key}")
            for key, _, value in pairs
            if key.startswith(prefix)
        }

    def run(self, command: str, arguments: Sequence[str], expected: int = 0) -> str:
        """Run an `aigc` command in this process and return what it printed.

        Args:
            command: its name.
            arguments: what follows the name.
            expected: the exit code.

        Raises:
            CheckFailedError: the command failed, or ended with another code.
        """
        output = io.StringIO()
        with isolated(), redirect_stdout(output):
            try:
                code = plugins.find("command", command).load()(list(arguments))
            except UserError as error:
                raise CheckFailedError(f"`aigc {command} {' '.join(arguments)}`: {error}") from error
            except SystemExit as error:
                code = error.code
        if (code or 0) != expected:
            raise CheckFailedError(f"`aigc {command} {' '.join(arguments)}` exited with {code}:\n{output.getvalue()}")
        return output.getvalue()


@dataclass
class DataCase(Case):
    """Data under test.

    Args:
        config: the preset or config file with the data's options; "" for their defaults.
    """

    config: str = ""

    @cached_property
    def section(self) -> dict[str, Any]:
        """The `data` section of the config, or one without options."""
        section = read_yaml(config_file(self.config, self.plugin))["data"] if self.config else {}
        options = section.get("init_args") if isinstance(section, dict) else None
        return {"class_path": self.name, "init_args": options or {}}

    def build(self, **changed: Any) -> ImageDataModule:
        """Return the data with the case's options.

        Raises:
            CheckFailedError: an option is required and not given, unknown, or of the wrong type.
        """
        options = {**self.section["init_args"], **self.set_values("data")}
        parameters = signature(self.target).parameters
        missing = [name for name, value in parameters.items() if value.default is value.empty and name not in options]
        if missing:
            raise CheckFailedError(f"It needs data.{missing[0]}: add --config PRESET or --set data.{missing[0]}=VALUE.")
        try:
            arguments = built_arguments(self.target, options) if options else {}
        except ArgumentError as error:
            raise CheckFailedError(f"Its options: {error}") from error
        return cast(ImageDataModule, self.target(**{**arguments, **changed}))

    def arguments(self) -> list[str]:
        """Return the options with which `aigc fit` uses the data; the settings come on top."""
        path = self.folder / "data.yaml"
        path.write_text(yaml.safe_dump({"data": self.section}), encoding="utf-8")
        return [f"--config={path}"]


@dataclass
class ModelCase(Case):
    """A model under test.

    Args:
        config: the preset or config file to train with; "" for the model's first preset on digits, or otherwise its
            first.
    """

    config: str = ""

    @cached_property
    def preset(self) -> str:
        """The name or path of the preset to train with.

        Raises:
            CheckFailedError: no package provides one.
        """
        if self.config:
            return self.config
        names = [f"{owner}:{name}" for name, owner, _ in plugins.presets_of(self.plugin)]
        own = [name for name in names if name.startswith(f"{self.plugin.distribution}:")]
        if not names:
            raise CheckFailedError(
                f"No package has a preset for {self.name}: add a folder of presets and an entry point in the group "
                f"{plugins.GROUPS['config']}, or name a config file."
            )
        found = own or names
        return next((name for name in found if name.endswith("_digits")), found[0])  # these need no data files

    def arguments(self, steps: int, **changed: str) -> list[str]:
        """Return the options of `aigc fit` for a number of steps.

        Args:
            steps: number of batches.
            changed: further options, with `__` for each dot of a name.
        """
        values = {**_ANYWHERE, "trainer.max_steps": str(steps)}
        values |= dict(cast(tuple[str, str], text.split("=", 1)) for text in self.settings)
        values |= {name.replace("__", "."): value for name, value in changed.items()}
        first = {name: value for name, value in values.items() if name in ("model", "data")}  # their options follow
        return ["--config", self.preset, *(f"--{name}={value}" for name, value in {**first, **values}.items())]

    def fit(self, run: str, steps: int, **changed: str) -> Path:
        """Train in a new run folder and return the folder."""
        folder = self.folder / run
        self.run("fit", [*self.arguments(steps, **changed), f"--run={folder}"])
        return folder

    def stop(self, run: str, steps: int, stop: int) -> Path:
        """Train in a new run folder until SIGTERM comes during a batch, and return the folder."""
        folder = self.folder / run
        signalled = [f"--trainer.callbacks+={_STOP}", f"--trainer.callbacks.step={stop}"]
        self.run("fit", [*self.arguments(steps), *signalled, f"--run={folder}"], expected=128 + signal.SIGTERM)
        return folder

    def resume(self, origin: Path, run: str, steps: int, checkpoint: str = "") -> Path:
        """Copy a run, continue training the copy, and return its folder.

        Args:
            origin: folder of the run.
            run: name of the copy.
            steps: number of batches in all.
            checkpoint: name of the checkpoint; the last one by default.
        """
        folder = self.folder / run
        shutil.copytree(origin, folder)
        start = folder / CHECKPOINTS / checkpoint if checkpoint else find_checkpoint(folder)
        self.run("fit", [*self.arguments(steps), f"--resume={start}", f"--run={folder}"])
        return folder

    @cached_property
    def trained(self) -> Path:
        """The folder of a two-step run with the preset, with a checkpoint of each step."""
        return self.fit("two_steps", 2, checkpoints__keep_every_n_steps="1")

    @cached_property
    def record(self) -> dict[str, Any]:
        """The record in the trained run's checkpoint."""
        return cast(dict[str, Any], read_checkpoint(find_checkpoint(self.trained))[RECORD_KEY])

    @property
    def spec(self) -> ImageSpec:
        """The spec of the preset's images."""
        return ImageSpec.from_dict(self.record["spec"])

    def load(self, run: Path | None = None) -> ImageModel:
        """Return the model of a run, by default of the trained one."""
        with isolated():
            return load_model(run or self.trained)

    def build(self, spec: ImageSpec) -> ImageModel:
        """Return an untrained model with the arguments of the trained one."""
        with isolated():
            return build_model({**self.record, "spec": spec.to_dict()}, self.trained)

    def data(self) -> ImageDataModule:
        """Return the data of the trained run."""
        made = self.record["data"]
        plugin = plugins.find_by_class_path("data", made["class_path"])
        if plugin is None:
            raise CheckFailedError(f"The preset's data {made['class_path']} is not an installed plugin.")
        return build_data(plugin.class_path, made["config"])

    def weights(self, step: int) -> dict[str, torch.Tensor]:
        """Return the weights of the trained run after a step."""
        path = self.trained / CHECKPOINTS / f"step_{step:07d}.ckpt"
        return cast(dict[str, torch.Tensor], read_checkpoint(path)["state_dict"])


def config_file(config: str, plugin: plugins.Plugin) -> Path:
    """Return the file of a preset or config with which a plugin is to be checked.

    Raises:
        UserError: there is no such file, or it does not use the plugin.
    """
    path = Path(config) if Path(config).is_file() else plugins.find_preset(config)
    if plugins.uses(path, plugin):
        return path
    what = f"{config} is no config for the {plugin.kind} {plugin.name}: its section `{plugin.kind}` names another."
    raise UserError(what, f"Choose one that uses it, or check what it uses: {command('aigc', 'configs')}")


@contextmanager
def isolated() -> Iterator[None]:
    """Restore environment variables and random states afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        with restored_environment():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
