"""Editing pictures with a model and with plain operations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aigc_lightning.core.io.atomic import inside
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted
from aigc_lightning.errors import UserError
from aigc_lightning.inference.before_after import BeforeAfter
from aigc_lightning.inference.edit_conditions import NOTHING
from aigc_lightning.inference.edit_paths import PAGE, SHEET, Results
from aigc_lightning.inference.operations import Operation, apply_operations
from aigc_lightning.inference.picture_editor import PictureEditor
from aigc_lightning.inference.picture_file import on_white, read_picture, write_picture
from aigc_lightning.inference.trust.signer import PictureSigner
from aigc_lightning.inference.trust.watermark import PictureMarker

#: Returns the metadata of a result, given what its model got beside the picture.
Describe = Callable[[Mapping[str, object]], dict[str, str]]
#: A picture before and after, its mask and its first reference.
_Row = tuple[Image.Image, Image.Image, Image.Image | None, Image.Image | None]


@dataclass(frozen=True)
class Steps:
    """What is done to each picture.

    Args:
        editor: the model; None for operations alone.
        before: operations before the model.
        after: operations after the model.
        text: returns the metadata of a result, given what its model got beside the picture.
        opaque: composite transparent pictures on white first.
        signer: signs the results and the sheet.
        marker: writes watermarks into the results.
    """

    editor: PictureEditor | None
    before: list[Operation]
    after: list[Operation]
    text: Describe
    opaque: bool
    signer: PictureSigner | None = None
    marker: PictureMarker | None = None

    @property
    def failed(self) -> bool:
        """Whether a result could not be signed or marked."""
        return bool((self.signer and self.signer.failed) or (self.marker and self.marker.failed))


def edit_files(results: Results, steps: Steps) -> int:
    """Edit files one by one and write the results, the sheet and the page; return the exit code.

    A file that cannot be read, is too small for an operation, or whose result cannot be written is named and skipped;
    the exit code is then 1, as it is if a result cannot be signed or marked.

    Args:
        results: the files and where their results go.
        steps: what is done to them.

    Raises:
        UserError: the model cannot edit them, or the folder of the results cannot be written to.
    """
    results.make_folder()
    overview = BeforeAfter()
    skipped: list[Path] = []
    done: list[Path] = []
    with _progress() as bar:
        files = bar.add_task("pictures", total=len(results.paths))
        tiles = _Tiles(bar)
        for path, result_path in results.paths.items():
            bar.update(files, description=escape(shown(path.name)))
            try:
                row = _edited(path, result_path, results.out, steps, tiles)
            except UserError as error:
                skipped.append(path)
                bar.console.print(shown(_skipped(path, error)), markup=False, highlight=False, soft_wrap=True)
            else:
                overview.add(shown(result_path.relative_to(results.out).as_posix()), *row)
                done.append(result_path)
            bar.advance(files)
    if steps.editor and tiles.several and (warning := steps.editor.warning()):
        echo(warning, error=True)
    _say_counts(results, done, skipped)
    if done:
        skipped += _write_overview(overview, results.out, steps.text({}), steps.signer)
    else:
        results.drop_folder()
    return 1 if skipped or steps.failed else 0


class _Tiles:
    """Shows the tiles of the picture at work, if there are several.

    Args:
        bar: that shows them.
    """

    def __init__(self, bar: Progress) -> None:
        self._bar, self._task = bar, bar.add_task("tiles", visible=False)
        self.several = False  # for any picture so far

    def start(self, number: int) -> None:
        """Begin a picture of a number of tiles."""
        self.several = self.several or number > 1
        self._bar.reset(self._task, total=number, visible=number > 1)

    def advance(self, count: int) -> None:
        """Show that some tiles are done."""
        self._bar.advance(self._task, count)


def _edited(path: Path, result_path: Path, out: Path, steps: Steps, tiles: _Tiles) -> _Row:
    """Edit a file, write the result and return what the overview shows.

    Raises:
        UserError: the file cannot be read or edited, or the result cannot be written.
    """
    editor = steps.editor
    source = read_picture(path, keep_colors=editor is None)
    picture = apply_operations(on_white(source.picture) if steps.opaque else source.picture, steps.before)
    seen, beside = picture, editor.beside(path, picture) if editor else NOTHING
    if editor:
        tiles.start(len(editor.tiling(*picture.size)))
        picture = editor.edit(picture, tiles.advance, beside)
    picture, text = apply_operations(picture, steps.after, seen), steps.text(beside.record)
    if steps.marker:
        picture, text = steps.marker.marked(picture, text, result_path)
    with _writing(result_path):
        place = inside(out, result_path.relative_to(out))
        write_picture(picture, place, source, text)
    if steps.signer:
        steps.signer.sign(place, text, parent=path)
    return source.picture, picture, beside.mask, next(iter(beside.references), None)


def _say_counts(results: Results, done: Sequence[Path], skipped: Sequence[Path]) -> None:
    """Say how many pictures were skipped, and which were written."""
    if skipped:
        echo(f"{counted(len(skipped), 'picture')} of {len(results.paths)} skipped.", error=True)
    if done:
        names = [path.relative_to(results.out).as_posix() for path in (done[0], done[-1])]
        echo(f"{counted(len(done), 'picture')} in {results.out}: {' to '.join(dict.fromkeys(names))}")


def _write_overview(
    overview: BeforeAfter, folder: Path, text: dict[str, str], signer: PictureSigner | None
) -> list[Path]:
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
            if signer and path.suffix == ".png":
                signer.sign(path, text)
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


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _skipped(path: Path, error: UserError) -> str:
    what = shown(error.what)
    named = what if shown(path) in what else f"{shown(path)}: {what}"
    return f"Skipped: {named} {error.hint}".rstrip()
