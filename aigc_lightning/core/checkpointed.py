"""Modules whose checkpoints describe how to rebuild them and from which training resumes exactly."""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.precision import DoublePrecision

from aigc_lightning import __version__, plugins
from aigc_lightning.core.checkpoint_file import read_record
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.core.rebuilding import build, names, registered, take_weights
from aigc_lightning.core.records import (
    FORMAT,
    OPTIMIZER_SIZES,
    RECORD_KEY,
    check_finite,
    check_record,
    check_resumable,
    first_mismatch,
    kind_of,
    optimizer_sizes,
)
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.run.loop_state import as_interrupted
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.step_means import Recorded
from aigc_lightning.errors import UserError

#: Where a checkpoint keeps the losses since the last row of metrics.csv.
UNLOGGED_KEY = "aigc_unlogged"


class CheckpointedModule(pl.LightningModule):
    """A module that is built from a spec and plain values, which its checkpoints name.

    A subclass that overrides `on_save_checkpoint` or `on_load_checkpoint` must also call the method of this class.
    """

    spec: ImageSpec
    _init_values: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments, so that a checkpoint can store them without help from the subclass."""
        model = super().__new__(cls)
        if args or kwargs:  # copied and unpickled models are created without arguments and get their state afterwards
            try:
                bound = inspect.signature(cls.__init__).bind(model, *args, **kwargs)
            except TypeError:  # __init__ reports it better
                return model
            bound.apply_defaults()
            values = dict(list(bound.arguments.items())[1:])
            object.__setattr__(model, "_init_values", values)
        return model

    def __init__(self) -> None:
        super().__init__()
        #: Records of the frozen networks of other runs that this model uses, by name; see `core/component.py`.
        self.components: dict[str, dict[str, Any]] = {}
        self._recorded = Recorded()
        #: Numbers of optimizers and schedulers in the checkpoint that was resumed.
        self._restored_counts: dict[str, int] = {}

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's also takes open files
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device | None = None,
        hparams_file: None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return the model of a checkpoint, rebuilt from its record, in training mode.

        The file is always checked for damage and read with `weights_only`.

        Args:
            checkpoint_path: a .ckpt, an exported .safetensors file, the folder of a run, or an http(s) address.
            map_location: the device of the model; the CPU by default.
            hparams_file: must be None; the record has the arguments.
            strict: whether all weights must be present and fit; True by default.
            weights_only: only True is accepted.
            **kwargs: arguments of the model that replace the recorded ones, such as `lr=1e-4`.

        Raises:
            UserError: the file cannot be used, or its model is not an instance of this class.
        """
        if weights_only is False:
            raise UserError(
                "weights_only is False.", "Leave it out: checkpoints are never read in a way that runs code."
            )
        if hparams_file is not None:
            raise UserError("hparams_file is given.", "Leave it out, and give other arguments as keywords.")
        file = find_checkpoint(checkpoint_path)
        record, weights = read_record(file)
        found = cls if names(record, cls) else registered(record, file).load()  # it need not be registered
        if not issubclass(found, cls):
            raise UserError(
                f"{file} holds a {record['class_path']}, which is not a {cls.__name__}.",
                f"Load it with {found.__name__}.load_from_checkpoint or ImageModel.load_from_checkpoint.",
            )
        model: Self = build(found, {**record, "config": {**record["config"], **kwargs}}, file)
        take_weights(model, weights, record, file, strict=strict is not False)
        return model if map_location is None else model.to(map_location)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but embedded components, which are always in evaluation mode."""
        super().train(mode)
        for name, component in self.components.items():
            if "record" in component:
                getattr(self, name).eval()
        return self

    def take_settings(self, record: dict[str, Any]) -> None:
        """Restore what a record holds besides the arguments; called after the model was built from it."""

    def provenance(self) -> dict[str, Any]:
        """Return plain values from which this model can be rebuilt."""
        values = {name: plain(value, name) for name, value in self._init_values.items() if name != "spec"}
        class_path = f"{type(self).__module__}.{type(self).__qualname__}"
        plugin = plugins.find_by_class_path("model", class_path)
        makers = {plugin.distribution: plugin.version} if plugin and not plugin.is_builtin else {}
        return {
            "format": FORMAT,
            "class_path": class_path,
            "config": redacted(values),  # checkpoints are shared
            "spec": self.spec.to_dict(),
            "versions": {"aigc_lightning": __version__, "torch": str(torch.__version__), **makers},
            **({"components": self.components} if self.components else {}),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a finished run continue as if it had been interrupted.

        Raises:
            UserError: training cannot resume from the content of the checkpoint.
        """
        origin = Path(str(self.trainer.ckpt_path))
        if RECORD_KEY in checkpoint:  # a subclass may keep none
            check_record(checkpoint[RECORD_KEY], origin)
        check_finite(self, checkpoint["state_dict"], origin)
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.double()  # Lightning does this after loading the weights, which would round them
        if not self.trainer.training:
            return
        check_resumable(checkpoint, origin)
        self._check_components(checkpoint.get(RECORD_KEY, {}).get("components", {}), origin)
        loops = checkpoint["loops"]
        if found := first_mismatch(loops["fit_loop"], kind_of(self.trainer.fit_loop.state_dict()), "loops.fit_loop"):
            raise UserError(
                f"Training cannot resume from {origin}: {found}.", "Give a checkpoint that `aigc fit` wrote."
            )
        as_interrupted(loops)
        self._restored_counts = {name: len(checkpoint[name]) for name in ("optimizer_states", "lr_schedulers")}
        parts = checkpoint.get(UNLOGGED_KEY, [])  # version 0.1 did not write it
        self._recorded.load_state(parts, self.global_rank, self.trainer.world_size, self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the record beside the weights, and what the next row of metrics.csv needs."""
        record = {**checkpoint.get(RECORD_KEY, {}), **self.provenance()}
        if "optimizer_states" in checkpoint:
            record[OPTIMIZER_SIZES] = optimizer_sizes(checkpoint)
            checkpoint[UNLOGGED_KEY] = self._recorded.to_state()
        checkpoint[RECORD_KEY] = record

    def _check_components(self, recorded: Mapping[str, Any], origin: Path) -> None:
        """Check that the components are the ones that the checkpoint was trained with.

        Raises:
            UserError: one has other weights.
        """
        for name, now in self.components.items():
            then = recorded.get(name, now)  # version 0.1 did not record components
            if then["sha256"] != now["sha256"]:
                raise UserError(
                    f"{origin} was trained with another {name}: weights {then['sha256'][:16]} of {then['address']}; "
                    f"{now['address']} now has {now['sha256'][:16]}.",
                    "Restore those weights, or start a new run without --resume.",
                )

    def _check_restored(self) -> None:
        """Check that the optimizers and schedulers match those of the checkpoint: Lightning ignores surplus ones.

        Raises:
            UserError: their number differs.
        """
        trainer = self.trainer
        there = {"optimizer_states": len(trainer.optimizers), "lr_schedulers": len(trainer.lr_scheduler_configs)}
        for name, number in self._restored_counts.items():
            if number != there[name]:
                raise UserError(
                    f"The checkpoint has {number} {name} but {type(self).__name__} creates {there[name]}.",
                    "Resume with the version of the package that wrote it, or start a new run without --resume.",
                )


def plain(value: Any, where: str) -> Any:
    """Return a copy made only of None, bool, int, float, str, list and dict.

    Raises:
        TypeError: it contains something else; a mistake of the model's author, hence not a UserError.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    raise TypeError(f"{where} is a {type(value).__name__}: arguments of models must be plain values, lists or mappings")
