"""Editing pictures with a model and with plain operations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from aigc_lightning.core.capabilities import Editor, size_multiple
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.atomic import inside
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.pictures import to_picture, to_uint8
from aigc_lightning.core.io.plural import counted
from aigc_lightning.errors import UserError
from aigc_lightning.inference.before_after import BeforeAfter
from aigc_lightning.inference.edit_paths import PAGE, SHEET, Results
from aigc_lightning.inference.loaded_model import LoadedModel
from aigc_lightning.inference.operations import Operation, apply_operations
from aigc_lightning.inference.picture_file import on_white, read_picture, write_picture
from aigc_lightning.inference.tiles import ChangedShapeError, Tiling, apply_in_tiles, fixed_tiling, free_tiling

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class PictureEditor:
    """A model that edits pictures of any size.

    Args:
        model: can edit; on its device.
        tile: side in pixels of the tiles into which larger pictures are cut if the model takes any size.
        seed: selects one of the model's variants; None for the default.
        direction: for a model that edits in two directions; None for the default.

    Raises:
        UserError: the model does not make variants, or edits in only one direction.
    """

    def __init__(self, model: ImageModel, tile: int, seed: int | None = None, direction: str | None = None) -> None:
        self.model, self.tile, self.seed, self.direction = model, tile, seed, direction
        known = signature(cast(Editor, model).edit).parameters
        if seed is not None and "seeds" not in known:
            raise UserError(f"{type(model).__name__} makes only one result per picture.", "Leave --seed out.")
        if direction is not None and "direction" not in known:
            raise UserError(f"{type(model).__name__} edits in only one direction.", "Leave --direction out.")

    def tiling(self, width: int, height: int) -> Tiling:
        """Return the positions of a picture's tiles."""
        multiple = size_multiple(cast(Editor, self.model))
        if multiple is None:
            return fixed_tiling(height, width, (self.model.spec.height, self.model.spec.width))
        return free_tiling(height, width, multiple, self.tile)

    def edit(self, picture: Image.Image, advance: Callable[[int], None]) -> Image.Image:
        """Return the edited picture, of the same size, in the model's colours.

        A model without an alpha channel sees a transparent picture on white, as in training. Its result then gets the
        original transparency, and colours that on white look like the model's output.

        Args:
            picture: in mode L, RGB or RGBA.
            advance: called with the number of tiles done since the last call.

        Raises:
            UserError: the model returns images of another size, or needs more memory than is available.
        """
        channels = self.model.spec.channels
        pixels = _pixels(picture.convert(_MODES[channels]))
        if channels == 4 or picture.mode != "RGBA":
            return to_picture(to_uint8(self._edited(pixels, advance)))
        alpha = _pixels(picture.getchannel("A")).add(1).div(2)
        edited = self._edited(pixels * alpha + (1 - alpha), advance)
        colour = torch.where(alpha > 0, (edited - (1 - alpha)) / alpha.clamp_min(1e-6), pixels)
        result = to_picture(to_uint8(colour)).convert("RGB")
        result.putalpha(picture.getchannel("A"))
        return result

    def _edited(self, image: Tensor, advance: Callable[[int], None]) -> Tensor:
        edit, name = cast(Editor, self.model).edit, type(self.model).__name__
        options: dict[str, Any] = {} if self.direction is None else {"direction": self.direction}

        def function(tiles: Tensor) -> Tensor:
            if self.seed is not None:
                options["seeds"] = [self.seed] * len(tiles)
            return edit(tiles.to(self.model.device), **options)

        tiling = self.tiling(image.shape[2], image.shape[1])
        try:
            return apply_in_tiles(function, image, tiling, batch_pixels=self.tile**2, advance=advance)
        except ChangedShapeError as error:
            raise UserError(f"The {name} changes the size: {error}.", "Use a model that keeps it.") from error
        except RuntimeError as error:  # torch.OutOfMemoryError on GPUs
            if "memory" not in str(error):
                raise
            hint = f"Give a --tile below {self.tile}."
            raise UserError(f"The {name} needs more memory than is available.", hint) from error


def load_editor(
    target: str, device: str, tile: int, seed: int | None, direction: str | None
) -> tuple[PictureEditor, dict[str, object]]:
    """Return an editor with the model of a run or checkpoint, and plain values that identify the model.

    Raises:
        UserError: the checkpoint cannot be used, its model does not edit or lacks an option, or there is no such
            device.
    """
    loaded = LoadedModel(target, device)
    if not isinstance(loaded.model, Editor):
        raise UserError(
            f"The {loaded.name} in {loaded.path} does not edit images.",
            "Try another model; `aigc plugins show NAME` says what a model can do.",
        )
    editor = PictureEditor(loaded.model, tile, seed, direction)
    asked = {"seed": seed, "direction": direction}
    return editor, {**loaded.origin, **{name: value for name, value in asked.items() if value is not None}}


def edit_files(
    results: Results,
    editor: PictureEditor | None,
    before: list[Operation],
    after: list[Operation],
    text: dict[str, str],
    *,
    opaque: bool,
) -> int:
    """Edit files one by one and write the results, the sheet and the page; return the exit code.

    A file that cannot be read, is too small for an operation, or whose result cannot be written is named and skipped;
    the exit code is then 1.

    Args:
        results: the files and where their results go.
        editor: the model; None for operations alone.
        before: operations before the model.
        after: operations after the model.
        text: metadata stored in every result.
        opaque: composite transparent pictures on white first.

    Raises:
        UserError: the model cannot edit them.
    """
    overview = BeforeAfter()
    skipped: list[Path] = []
    done: list[Path] = []
    with _progress() as bar:
        files = bar.add_task("pictures", total=len(results.paths))
        tiles = bar.add_task("tiles", visible=False)

        for path, result_path in results.paths.items():
            bar.update(files, description=escape(shown(path.name)))
            try:
                source = read_picture(path, keep_colors=editor is None)
                picture = apply_operations(on_white(source.picture) if opaque else source.picture, before)
                if editor:
                    number = len(editor.tiling(*picture.size))
                    bar.reset(tiles, total=number, visible=number > 1)
                    picture = editor.edit(picture, lambda count: bar.advance(tiles, count))
                picture = apply_operations(picture, after)
                with _writing(result_path):
                    write_picture(picture, inside(results.out, result_path.relative_to(results.out)), source, text)
            except UserError as error:
                skipped.append(path)
                bar.console.print(shown(_skipped(path, error)), markup=False, highlight=False, soft_wrap=True)
            else:
                overview.add(shown(result_path.relative_to(results.out).as_posix()), source.picture, picture)
                done.append(result_path)
            bar.advance(files)
    if skipped:
        echo(f"{counted(len(skipped), 'picture')} of {len(results.paths)} skipped.", error=True)
    if done:
        names = [path.relative_to(results.out).as_posix() for path in (done[0], done[-1])]
        echo(f"{counted(len(done), 'picture')} in {results.out}: {' to '.join(dict.fromkeys(names))}")
        skipped += _write_overview(overview, results.out, text)
    return 1 if skipped else 0


def _write_overview(overview: BeforeAfter, folder: Path, text: dict[str, str]) -> list[Path]:
    """Write the sheet and the page; return what could not be written."""
    write: dict[Path, Callable[[Path], None]] = {
        folder / SHEET: lambda path: overview.write_sheet(path, text),
        folder / PAGE: lambda path: overview.write_page(path, text["Description"]),
    }
    written, failed = [], []
    for path, function in write.items():
        try:
            with _writing(path):
                function(path)
        except UserError as error:
            failed.append(path)
            echo(_skipped(path, error), error=True)
        else:
            written.append(str(path))
    if written:
        echo(f"Before and after: {', '.join(written)}")
    return failed


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name the file that could not be written.

    Raises:
        UserError: it could not be written: the disk is full, its name is too long or belongs to a folder, or its
            picture is too large for its format.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{shown(path)} cannot be written: {reason.lower().rstrip('.')}.") from error


def _pixels(picture: Image.Image) -> Tensor:
    """Return a picture as float (C, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture)).view(picture.height, picture.width, -1)
    return pixels.permute(2, 0, 1).float().div_(127.5).sub_(1)


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _skipped(path: Path, error: UserError) -> str:
    what = shown(error.what)
    named = what if shown(path) in what else f"{shown(path)}: {what}"
    return f"Skipped: {named} {error.hint}".rstrip()
