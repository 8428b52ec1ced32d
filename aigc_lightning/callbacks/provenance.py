"""Records how a run was made in its outputs."""

import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml

from aigc_lightning.core.io.atomic import replacing
from aigc_lightning.core.io.redaction import redacted
from aigc_lightning.core.records import RECORD_KEY
from aigc_lightning.yaml_file import parse_yaml

_PACKAGES = ("aigc-lightning", "torch", "lightning", "torchvision", "torchmetrics", "jsonargparse", "numpy")
#: Options that describe this invocation rather than the run.
_STARTING = ("config", "resume", "run")


class Provenance(pl.Callback):
    """Writes `config.yaml` and `environment.json`, and puts data, seed and precision into every checkpoint.

    Args:
        parser: the parser of the options.
        config: the parsed options of the run.
    """

    def __init__(self, parser: Any, config: Any) -> None:
        text = parser.dump(config, skip_unset=False, format="yaml")
        values = {key: value for key, value in parse_yaml(text).items() if key not in _STARTING}
        self.config: dict[str, Any] = redacted(values)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write the files; the config of an earlier part of the run is kept under another name if this one differs."""
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        path = folder / "config.yaml"
        text = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            number = len(list(folder.glob("config_before_*.yaml"))) + 1
            path.replace(folder / f"config_before_{number}.yaml")
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        with replacing(folder / "environment.json") as temporary:
            temporary.write_text(json.dumps(_environment(), indent=2) + "\n", encoding="utf-8")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add data, seed and precision to the model's record."""
        data = self.config["data"]
        checkpoint.setdefault(RECORD_KEY, {}).update(
            data={"class_path": data["class_path"], "config": data.get("init_args", {})},
            seed=self.config["seed_everything"],
            precision=precision_name(self.config["trainer"].get("precision")),
        )


def precision_name(given: str | int | None) -> str:
    """Return the full name of a trainer's precision; None stands for 32-true."""
    names = {"None": "32-true", "64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
    return names.get(str(given), str(given))


def _environment() -> dict[str, Any]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": sys.version.split()[0], "platform": platform.platform(), "packages": versions}
