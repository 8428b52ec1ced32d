"""What the panel Try does: samples, walks, edits, and searches in an index."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aigc_lightning import shell
from aigc_lightning.config.command_line import seed_list
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.io.pictures import save_png, to_picture
from aigc_lightning.errors import UserError
from aigc_lightning.inference.edit_conditions import Conditions
from aigc_lightning.inference.edit_text import edit_text
from aigc_lightning.inference.interpolate import LatentModel
from aigc_lightning.inference.picture_editor import load_editor
from aigc_lightning.inference.picture_file import read_picture, write_picture
from aigc_lightning.inference.sample import Wanted, write_samples
from aigc_lightning.ui.asked import Asked
from aigc_lightning.ui.models import Models, described, interruptible
from aigc_lightning.ui.paths import check_value, confined
from aigc_lightning.ui.uploads import Uploads
from aigc_lightning.ui.worker import Job, Worker

#: The command, in a process of its own.
AIGC = (sys.executable, "-m", "aigc_lightning")
_MOST_SEEDS, _MOST_FRAMES, _TILE = 256, 60, 1024


class Calls:
    """Turns requests into jobs.

    Args:
        root: folder of the runs.
        worker: does the jobs.
        uploads: pictures by id.
        models: the loaded models.
        allow_addresses: whether a checkpoint may be an http(s) address.
    """

    def __init__(self, root: Path, worker: Worker, uploads: Uploads, models: Models, *, allow_addresses: bool) -> None:
        self.root, self.worker, self._uploads, self._models = root, worker, uploads, models
        self._allow_addresses = allow_addresses

    def describe(self, asked: Asked) -> str:
        """Load a model and answer what it can do."""
        target = self._target(asked.text("checkpoint"))
        return self.worker.add(lambda job: described(self._models.get(target)), "")

    def sample(self, asked: Asked) -> str:
        """Make one picture per seed and prompt, and a grid of all."""
        target, options = self._target(asked.text("checkpoint")), self._options(asked)
        seeds, class_name, prompts = seed_list(asked.text("seeds", "0-15")), _or_none(asked, "class"), _prompts(asked)
        count = len(seeds) * max(1, len(prompts))
        if count > _MOST_SEEDS:
            raise UserError(f"These are {count} pictures.", f"Make up to {_MOST_SEEDS} at a time on this page.")

        def work(job: Job) -> None:
            loaded = self._models.get(target)
            with interruptible(loaded.model, job.check):
                wanted = Wanted(seeds, class_name, prompts, options)
                write_samples(loaded, wanted, job.folder, with_grid=True, device=str(loaded.model.device))

        own = [*_flag("--class", class_name), *(part for text in prompts for part in ("--prompt", text))]
        parts: list[object] = ["--seeds", asked.text("seeds", "0-15"), *own, *_flags(options)]
        return self.worker.add(work, self._command("sample", asked.text("checkpoint"), *parts, "--grid"), count)

    def walk(self, asked: Asked) -> str:
        """Make the frames of a walk from one seed to another, both included."""
        target, options = self._target(asked.text("checkpoint")), self._options(asked)
        seeds, frames = seed_list(asked.text("seeds", "0,1")), asked.number("frames", 16, 2, _MOST_FRAMES)
        class_name, space = _or_none(asked, "class"), _or_none(asked, "space")
        prompt = next(iter(_prompts(asked)), None)
        if len(seeds) != 2:
            raise UserError("A walk goes from one seed to another.", "Give two different seeds, such as 0,1.")

        def work(job: Job) -> None:
            loaded = self._models.get(target)
            model = LatentModel(loaded, str(loaded.model.device), class_name, space, options, prompt)
            with interruptible(loaded.model, job.check):
                ends = model.latents(seeds)
                way = [*model.walk(ends, frames)][:frames]
                for number, image in enumerate(model.images(torch.cat([*way, ends[1:]]))):
                    text = model.text(seeds, frames=frames, frame=number)
                    save_png(to_picture(image), job.folder / f"{number:03d}.png", text)
                    job.advance()

        own = [*_flag("--class", class_name), *_flag("--space", space), *_flag("--prompt", prompt)]
        joined = ",".join(map(str, seeds))
        parts = ["--seeds", joined, "--frames", frames, *own]
        return self.worker.add(
            work, self._command("interpolate", asked.text("checkpoint"), *parts, *_flags(options)), frames + 1
        )

    def edit(self, asked: Asked) -> str:
        """Edit an uploaded picture."""
        target, options = self._target(asked.text("checkpoint")), self._options(asked)
        picture = self._uploads.path(asked.text("picture"))
        mask = self._uploads.path(asked.text("mask")) if asked.text("mask") else None
        references = [self._uploads.path(name) for name in asked.texts("references", 4)]
        conditions = Conditions(
            {} if mask is None else {picture: mask},
            [{picture: reference} for reference in references],
            _or_none(asked, "prompt"),
            int(asked.text("seed")) if asked.text("seed").isdecimal() else None,
            _or_none(asked, "direction"),
            options,
        )

        def work(job: Job) -> None:
            loaded = self._models.get(target)
            editor, origin = load_editor(loaded, str(loaded.model.device), _TILE, conditions)
            with interruptible(loaded.model, job.check):
                source = read_picture(picture)
                job.total = len(editor.tiling(*source.picture.size))
                beside = editor.beside(picture, source.picture)
                result = editor.edit(source.picture, job.advance, beside)
            write_picture(result, job.folder / "edited.png", source, edit_text(origin, "", beside.record))

        own = [*(("--mask", "mask.png") if mask else ()), *(("--reference", "reference.png") * len(references))]
        own += [*_flag("--prompt", conditions.prompt), *_flag("--seed", conditions.seed)]
        own += [*_flag("--direction", conditions.direction), *_flags(options)]
        return self.worker.add(work, self._command("edit", asked.text("checkpoint"), "picture.png", *own))

    def search(self, asked: Asked) -> str:
        """Search an index for a picture, a text, or the sample of a seed."""
        index = confined(self.root, asked.text("index"))
        number = asked.number("num", 20, 1, 100)
        query: list[object]
        shown: list[object]
        if asked.text("picture"):
            query, shown = [self._uploads.path(asked.text("picture"))], ["picture.png"]
        elif asked.text("prompt"):
            query = ["--prompt", asked.text("prompt")]
            shown = query
        else:
            seed = str(asked.number("seed", 0, 0, 2**53))
            query = ["--seed", seed, "--of", self._target(asked.text("checkpoint"))]
            shown = ["--seed", seed, "--of", asked.text("checkpoint")]

        def work(job: Job) -> Any:
            sheet = ["--num", str(number), "--json", "--out", str(job.folder / "found.png")]
            return json.loads(job.run([*AIGC, "search", str(index), *map(str, query), *sheet], self.root))

        parts = [*shown, "--num", number, "--out", "found.png"]
        return self.worker.add(work, self._command("search", asked.text("index"), *parts))

    def _target(self, checkpoint: str) -> str:
        """Return what to load.

        Raises:
            UserError: it is not below the folder of the runs, or an address where none is allowed.
        """
        if is_address(checkpoint):
            check_value(checkpoint, [self.root], allow_addresses=self._allow_addresses)
            return checkpoint
        return str(confined(self.root, checkpoint))

    def _options(self, asked: Asked) -> dict[str, str]:
        options = asked.options()
        for value in options.values():  # some name other runs
            check_value(value, [self.root], allow_addresses=self._allow_addresses)
        return options

    def _command(self, name: str, target: str, *parts: object) -> str:
        where = target if is_address(target) else self.root / target
        return shell.command("aigc", name, where, *parts)


def _prompts(asked: Asked) -> list[str]:
    return [line.strip() for line in asked.text("prompts").splitlines() if line.strip()]


def _or_none(asked: Asked, name: str) -> str | None:
    return asked.text(name) or None


def _flag(name: str, value: object) -> Sequence[object]:
    return () if value is None else (name, value)


def _flags(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]
