"""The commands as Python functions, for scripts and notebooks.

    from aigc_lightning import evaluate, fit, sample

    run = fit("dcgan_digits", model={"width": 32}, trainer={"max_steps": 2000})
    run.sample(range(16))
    sample(run, range(100), out="threes", class_name="3")
    evaluate(run, extractor="runs/cnn_digits/1")["frechet_distance"]

They run the code of `aigc fit`, `sample`, `edit` and `evaluate`, write the same files, and return objects that
notebooks show. What the commands refuse raises a `UserError`. For tensors, see `load`.
"""

import html
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aigc_lightning import plugins
from aigc_lightning.config.request import read_request
from aigc_lightning.config.signing import signing_keys
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.receipt import SCORES_FILE, Receipt, load_receipt
from aigc_lightning.evaluation.report import score_rows
from aigc_lightning.inference.edit_paths import SHEET, Results, input_files
from aigc_lightning.inference.loaded_model import LoadedModel, load
from aigc_lightning.inference.sample import Wanted, write_samples
from aigc_lightning.inference.trust.signer import PictureSigner
from aigc_lightning.inference.trust.watermark import PictureMarker


@dataclass(frozen=True)
class Run:
    """A folder that `aigc fit` has written; a notebook shows its newest grid.

    Args:
        folder: with checkpoints, grids, `metrics.csv` and `config.yaml`.
    """

    folder: Path

    def __fspath__(self) -> str:
        """Return the folder, so that a run can stand for its path."""
        return str(self.folder)

    def load(self, device: str = "cpu") -> LoadedModel:
        """Return the trained model.

        Args:
            device: such as "cpu" or "cuda".

        Raises:
            UserError: the run has no checkpoint, or there is no such device.
        """
        return load(find_checkpoint(self.folder), device)

    def sample(self, seeds: Iterable[int] = range(16), **options: Any) -> "Pictures":
        """Write samples into the run's folder `samples`, or into `out`; see `sample`."""
        return sample(self, seeds, **{"out": self.folder / "samples", **options})

    def _repr_png_(self) -> bytes | None:
        """Return the newest grid of samples."""
        grids = sorted((self.folder / "grids").glob("step_*.png"))
        return grids[-1].read_bytes() if grids else None


@dataclass(frozen=True)
class Pictures:
    """Files that `aigc sample` or `aigc edit` has written; a notebook shows their overview.

    Args:
        paths: of the pictures, in the order in which they were asked for.
        overview: the picture that shows them together.
    """

    paths: list[Path]
    overview: Path

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.paths)

    def _repr_png_(self) -> bytes | None:
        """Return the overview."""
        return self.overview.read_bytes() if self.overview.exists() else None


@dataclass(frozen=True)
class Scores(Mapping[str, float]):
    """Scores by key, such as "frechet_distance"; a notebook shows them as a table.

    Args:
        receipt: the scores with everything that they depend on.
        folder: of `scores.json` and `report.html`.
    """

    receipt: Receipt
    folder: Path
    _values: dict[str, float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = {key: value for section in self.receipt.sections for key, value in section.scores.items()}
        object.__setattr__(self, "_values", values)

    def __getitem__(self, key: str) -> float:
        """Return a score."""
        return self._values[key]

    def __iter__(self) -> Any:
        """Iterate over the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return how many scores there are."""
        return len(self._values)

    def _repr_html_(self) -> str:
        """Return a table with each section's scores and baseline."""
        tables = []
        for section in self.receipt.sections:
            head = ("score", "value", section.baseline_name)
            rows = [_row("th", head), *(_row("td", row) for row in score_rows(section))]
            tables.append(f"<table>{''.join(rows)}</table>")
        return "".join(tables)


def fit(config: str | Path | None = None, **options: Any) -> Run:
    """Train a model, as `aigc fit` does, and return its run.

    Args:
        config: a preset's name or a YAML file.
        **options: those of the command. Sections are dictionaries, such as `model={"width": 32}`; a name chooses the
            class, such as `model="dcgan"`, and takes options as `{"name": "dcgan", "width": 32}`.

    Raises:
        UserError: what the command would refuse.
        KeyboardInterrupt: training was interrupted, and is saved: `fit(resume=FOLDER)` goes on.
    """
    from aigc_lightning.training.cli import run  # Lightning takes seconds to import

    argv = ["--config", str(config)] if config is not None else []
    for name, value in options.items():
        argv += _arguments(name, value)
    try:
        return Run(run("fit", read_request("fit", argv)))
    except SystemExit as ended:
        if ended.code == 130:
            raise KeyboardInterrupt from ended
        raise


def sample(
    target: str | Path | Run,
    seeds: Iterable[int] = range(16),
    *,
    out: str | Path = "samples",
    class_name: str | None = None,
    prompts: Sequence[str] = (),
    device: str = "cpu",
    sign: bool = False,
    watermark: str | Path | None = None,
    **options: Any,
) -> Pictures:
    """Write one picture per seed and a grid, as `aigc sample --grid` does.

    Args:
        target: a run, a checkpoint or an exported file.
        seeds: at least one, not negative.
        out: the folder.
        class_name: class of the pictures; None for the model's default.
        prompts: what the pictures show; each is drawn with every seed.
        device: such as "cpu" or "cuda".
        sign: sign the pictures, which happens without it where AIGC_SIGN names a folder of keys.
        watermark: run or checkpoint of the watermark to write into the pictures.
        **options: the model's own, such as `steps=18`.

    Raises:
        UserError: what the command would refuse.
    """
    chosen = list(dict.fromkeys(int(seed) for seed in seeds))
    if not chosen or min(chosen) < 0:
        raise UserError("There are no seeds, or some are negative.", "Give whole numbers from 0 on.")
    if Path(out).suffix == ".npz":
        raise UserError(f"{out} is one file, and this function writes pictures.", "Use aigc sample, or give a folder.")
    keys = signing_keys(sign)
    given = {name: str(value) for name, value in options.items()}
    paths = write_samples(
        str(Path(target)),
        Wanted(chosen, class_name, prompts, given),
        Path(out),
        with_grid=True,
        device=device,
        signer=None if keys is None else PictureSigner(keys),
        marker=None if watermark is None else PictureMarker(str(watermark), device),
    )
    return Pictures(paths, Path(out) / "grid.png")


def edit(
    target: str | Path | Run | None, *pictures: str | Path, out: str | Path = "edited", **options: Any
) -> Pictures:
    """Edit pictures with a model, plain operations, or both, as `aigc edit` does.

    Args:
        target: a run, a checkpoint or an exported file; None with the option `ops`.
        *pictures: files, folders or patterns.
        out: the folder of the results.
        **options: those of the command, such as `mask="hole.png"`, and the model's own.

    Raises:
        UserError: what the command would refuse.
    """
    from aigc_lightning.commands.edit import edit as command

    images = [str(Path(picture)) for picture in pictures]
    argv = [*([] if target is None else [str(Path(target))]), *images, "--out", str(Path(out))]
    command([*argv, *_flags(options)])
    results = Results(Path(out), input_files(images, Path(out)))
    return Pictures([path for path in results.paths.values() if path.exists()], Path(out) / SHEET)


def evaluate(target: str | Path | Run | None = None, *, out: str | Path | None = None, **options: Any) -> Scores:
    """Score a model on its data, or the folder `fake` against the folder `real`, as `aigc evaluate` does.

    Args:
        target: a run, a checkpoint or an exported file.
        out: the folder of the results; that of the command by default.
        **options: those of the command, such as `extractor`, `metrics` and `num`, and the model's own. Those of the
            data are a dictionary, such as `data={"name": "digits", "size": 8}`.

    Raises:
        UserError: what the command would refuse.
    """
    from aigc_lightning.commands.evaluate.evaluate import scored

    argv = [] if target is None else [str(Path(target))]
    argv += [] if out is None else ["--out", str(Path(out))]
    folder = scored([*argv, *_flags(options)])
    return Scores(load_receipt(folder / SCORES_FILE), folder)


def run_command(name: str, *arguments: Any, **options: Any) -> int:
    """Run a command that has no function of its own here, and return its exit code.

    Args:
        name: such as "index" or "export".
        *arguments: what the command line has without an option, such as a run, and sub-commands.
        **options: such as `out="photos.index"`, or True for a switch; `_` stands for `-`.

    Raises:
        UserError: there is no such command, or it refuses something.
    """
    given = {key.replace("_", "-"): value for key, value in options.items()}
    function = plugins.find("command", name).load()
    return int(function([*map(_text, arguments), *_flags(given)]) or 0)


def _arguments(name: str, value: Any) -> list[str]:
    """Return the arguments of a section or an option of `aigc fit`."""
    if name == "trust_config":
        return ["--trust-config"] if value else []
    if not isinstance(value, Mapping):
        return [f"--{name}={_text(value)}"]
    named = [f"--{name}={value['name']}"] if "name" in value else []
    return [*named, *(f"--{name}.{key}={_text(part)}" for key, part in value.items() if key != "name")]


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Return the arguments of a command whose switches take no value."""
    found: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            found += _arguments(name, value)
        elif value is True:
            found.append(f"--{name}")
        elif value is not None and value is not False:
            found.append(f"--{name}={_text(value)}")
    return found


def _text(value: Any) -> str:
    """Return a value as it would be written on the command line."""
    return os.fspath(value) if isinstance(value, str | os.PathLike) else json.dumps(value)


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
