"""The input and output paths of `aigc edit`; nothing is decoded here."""

import os
from collections.abc import Iterable
from contextlib import suppress
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path, PurePath
from unicodedata import normalize

from aigc_lightning.core.io.escape import shown
from aigc_lightning.data.decode import SUFFIXES
from aigc_lightning.data.folders.find_images import find_images, warn_of_others
from aigc_lightning.errors import UserError
from aigc_lightning.inference.picture_file import JPEG_SUFFIXES

#: Files written beside the results.
SHEET, PAGE = "before_after.png", "compare.html"
_MOST_NAMED = 3  # pictures in a message


class Results:
    """The output path of each picture.

    Args:
        out: the folder.
        inputs: the files, with their names relative to `out`.
        also_read: other files that are read, such as masks.

    Raises:
        UserError: a result would overwrite an input.
    """

    def __init__(self, out: Path, inputs: list[tuple[Path, PurePath]], also_read: Iterable[Path] = ()) -> None:
        self.out, self._is_new = out, False
        self.paths = _result_paths(inputs, out)
        files = [*(path for path, _ in inputs), *also_read]
        read = {identity: path for path in files if (identity := _identity(path)) is not None}
        for path in (*self.paths.values(), out / SHEET, out / PAGE):
            if (overwritten := read.get(_identity(path) or (-1, -1))) is not None:
                raise UserError(f"The results would overwrite {shown(overwritten)}.", "Choose another --out.")

    def make_folder(self) -> None:
        """Make the folder of the results.

        Raises:
            UserError: it cannot be written to.
        """
        self._is_new = not self.out.exists()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"The folder {self.out} cannot be written: {error.strerror}."
            raise UserError(what, "Choose another --out.") from error

    def drop_folder(self) -> None:
        """Remove the folder of the results if it was made for them and there are none."""
        if self._is_new:
            with suppress(OSError):  # something else has written there
                self.out.rmdir()


def input_files(arguments: list[str], out: Path) -> list[tuple[Path, PurePath]]:
    """Return the files that the arguments name, in order, each with its name relative to the output folder.

    A folder stands for all image files in it and below, as for `image_folder`: sorted by name, following links,
    skipping litter. Its subfolders are kept. If `out` lies in a given folder, its content is skipped, being results of
    an earlier call.

    Args:
        arguments: files, folders or patterns such as "scans/**/*.png".
        out: the output folder.

    Raises:
        UserError: an argument matches nothing.
    """
    found: dict[Path, PurePath] = {}
    for argument in arguments:
        for path, name in _named(argument, out):
            found.setdefault(path, name)
    return list(found.items())


def paired_files(given: Path, inputs: list[tuple[Path, PurePath]], what: str) -> dict[Path, Path]:
    """Return the file that belongs to each picture, such as its mask.

    Args:
        given: one file for all pictures, or a folder with a file of the same name for each, whatever the extension.
        inputs: the pictures, with their relative names; sub-folders count.
        what: "mask" or "reference".

    Raises:
        UserError: there is no such file or folder, or a picture has none or more than one in it.
    """
    if not given.is_dir():
        if not given.is_file():
            raise UserError(f"There is no file or folder {shown(given)}.", f"Check the path after --{what}.")
        return {path: given for path, _ in inputs}
    found: dict[str, list[str]] = {}
    for name in find_images(given).names:
        found.setdefault(_stem(PurePath(name)), []).append(name)
    matches = {path: found.get(_stem(name), []) for path, name in inputs}
    missing = [shown(path) for path, names in matches.items() if not names]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        listed = ", ".join(missing[:_MOST_NAMED]) + more
        example = shown(given / PurePath(inputs[0][1]).with_suffix(".png"))
        raise UserError(f"{shown(given)} has no {what} for {listed}.", f"Name them like the pictures: {example}.")
    for path, names in matches.items():
        if len(names) > 1:
            both = " and ".join(map(shown, names))
            raise UserError(f"{shown(given)} has several {what}s for {shown(path)}: {both}.", "Keep one.")
    return {path: given / names[0] for path, names in matches.items()}


def _stem(name: PurePath) -> str:
    """Return a relative name without its extension, however its accents are composed."""
    return normalize("NFC", name.with_suffix("").as_posix())


def _named(argument: str, out: Path) -> list[tuple[Path, PurePath]]:
    path = Path(argument)
    if path.is_dir():
        found = find_images(path)
        names = found.names
        warn_of_others(path, found.others)
        files = [(path / name, PurePath(name)) for name in names if not _is_result(path / name, path, out)]
        if not files:
            raise UserError(f"The folder {argument} holds no images.", f"Images end in {', '.join(SUFFIXES)}.")
        return files
    if os.path.lexists(path):  # a broken link is skipped with a message when it is read
        return [(path, PurePath(path.name))]
    if "://" in argument:
        raise UserError(f"{argument} is an address, but pictures are only read from files.", "Download it first.")
    fixed = Path(*takewhile(lambda part: not has_magic(part), path.parts))
    matches = [Path(name) for name in sorted(glob(argument, recursive=True))]
    files = [
        (match, PurePath(match.name)) for match in matches if not match.is_dir() and not _is_result(match, fixed, out)
    ]
    if not files:
        kind = "No file matches" if has_magic(argument) else "There is no file or folder"
        raise UserError(f"{kind} {argument}.", "Check the path; it is relative to the working directory.")
    return files


def _result_paths(inputs: list[tuple[Path, PurePath]], out: Path) -> dict[Path, Path]:
    """Return the file of each result; of inputs with the same name, the later ones get a number."""
    taken = {SHEET, PAGE}
    paths = {}
    for path, name in inputs:
        suffix = name.suffix if name.suffix.lower() in JPEG_SUFFIXES else ".png"
        chosen, number = name.with_suffix(suffix), 2
        while chosen.as_posix().lower() in taken:
            chosen, number = name.with_name(f"{name.stem}-{number}{suffix}"), number + 1
        taken.add(chosen.as_posix().lower())
        paths[path] = out / chosen
    return paths


def _is_result(path: Path, folder: Path, out: Path) -> bool:
    """Return whether a file of a folder is in the output folder, which lies inside that folder."""
    out, folder = out.resolve(), folder.resolve()
    return out != folder and out.is_relative_to(folder) and path.resolve().is_relative_to(out)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what identifies a file; None if it does not exist or its name is invalid."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
