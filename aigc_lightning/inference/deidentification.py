"""Pictures without faces and without metadata: faces are obscured until a detector finds none, all tags are dropped."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from aigc_lightning.core.io.atomic import inside, no_follow, open_regular, replacing
from aigc_lightning.core.io.escape import shown
from aigc_lightning.errors import UserError
from aigc_lightning.inference.edit_paths import Results, input_files
from aigc_lightning.inference.face_detectors import Box, Detector, check_detector, find_faces
from aigc_lightning.inference.picture_file import PictureFile, read_picture, write_picture

Method = Literal["blur", "pixelate", "fill"]
REPORT = "deidentified.jsonl"
_MARGIN = 0.3  # of a box that is added on each side: the detector marks eyes to mouth, but hair and chin tell as much
_STEPS = {"blur": 6, "pixelate": 8}  # pixels that are left of a face's width and height
_PASSES = 5
_FILLED_FROM = 2  # the pass from which what is found is filled: an obscured face may still look like one
_GPS, _EXIF, _THUMBNAIL = 0x8825, 0x8769, 1
#: What EXIF tags reveal, by tag.
_TELLING = {
    0x010F: "camera",
    0x0110: "camera",
    0x0132: "time",
    0x013B: "names",
    0x8298: "names",
    0x9003: "time",
    0x9004: "time",
    0x927C: "maker notes",
    0x9C9D: "names",
    0xA420: "serial numbers",
    0xA430: "names",
    0xA431: "serial numbers",
    0xA435: "serial numbers",
    0xC62F: "serial numbers",
}
_TEXTS = {"comment": "comments", "xmp": "XMP", "XML:com.adobe.xmp": "XMP", "photoshop": "IPTC"}


@dataclass(frozen=True)
class Deidentified:
    """What was done to one picture.

    Args:
        name: of the file, relative to the source folder.
        size: of the file in bytes.
        modified: its time of modification in nanoseconds.
        result: name of the result, relative to the target folder.
        faces: the obscured parts: left, top, right and bottom in pixels.
        removed: what its metadata revealed, such as "place".
    """

    name: str
    size: int
    modified: int
    result: str
    faces: list[list[int]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


class Outcome(NamedTuple):
    """The result of a call.

    Args:
        done: all pictures in the target folder.
        made: number of pictures made in this call.
        skipped: the reason for each file that was left out, by its path.
    """

    done: list[Deidentified]
    made: int
    skipped: dict[Path, UserError]


def deidentify(
    source: Path,
    target: Path,
    method: Method,
    watch: Callable[[int, int], object] = lambda done, total: None,
    detector: Detector = "cascade",
) -> Outcome:
    """Write the pictures of a folder without recognisable faces and without metadata, and a report of what was done.

    Pictures that an earlier call has made from the same files are kept. A picture in which the detector still finds a
    face is not written.

    Args:
        source: folder of pictures.
        target: folder of the results, JPEG for JPEG and PNG for all others, and of the report.
        method: what becomes of faces.
        watch: called with the number of files done and their total.
        detector: what finds faces.

    Raises:
        UserError: the source has no pictures, the target cannot be written or has other content, or the detector is not
            installed.
    """
    check_detector(detector)
    if not source.is_dir():
        raise UserError(f"There is no folder {shown(source)}.", "Give a folder of pictures.")
    settings = {"source": str(source.resolve()), "faces": method}
    settings |= {} if detector == "cascade" else {"detector": detector}
    known = _known(target, settings)
    files = input_files([str(source)], target)
    names = {path: name.as_posix() for path, name in files}
    results = Results(target, files)
    results.make_folder()
    outcome, made, skipped = [], 0, {}
    with replacing(target / REPORT) as temporary:  # whole lines, so that one that was cut off is not continued
        temporary.write_text("".join(f"{json.dumps(line)}\n" for line in (settings, *map(asdict, known.values()))))
    with open(target / REPORT, "a", encoding="ascii", opener=no_follow) as report:
        for number, (path, result) in enumerate(results.paths.items()):
            watch(number, len(files))
            state = _state(path)
            planned = Deidentified(names[path], *state, result.relative_to(target).as_posix())
            earlier = known.get(planned.name)
            if earlier and _same_file(earlier, planned) and result.is_file():
                outcome.append(earlier)
                continue
            try:
                found = _made(path, inside(target, planned.result), planned, method, detector)
            except UserError as error:
                skipped[path] = error
                continue
            report.write(json.dumps(asdict(found)) + "\n")
            report.flush()
            outcome.append(found)
            made += 1
        watch(len(files), len(files))
    return Outcome(outcome, made, skipped)


def obscured(picture: Image.Image, faces: list[Box], method: Method) -> Image.Image:
    """Return a picture with faces, and a margin around them, blurred, pixelated or filled with black."""
    changed = picture.copy()
    for face in faces:
        box = _widened(face, picture.size)
        size = (box.right - box.left, box.bottom - box.top)
        if method == "fill":
            alpha = (255,) if picture.mode == "RGBA" else ()
            changed.paste(0 if picture.mode == "L" else (0, 0, 0, *alpha), box)
            continue
        # A blur by few pixels leaves no more of the face than these, whatever is computed from it.
        small = changed.crop(box).resize((_STEPS[method],) * 2, Image.Resampling.BOX)
        smooth = Image.Resampling.BICUBIC if method == "blur" else Image.Resampling.NEAREST
        changed.paste(small.resize(size, smooth), box)
    return changed


def _made(path: Path, result: Path, planned: Deidentified, method: Method, detector: Detector) -> Deidentified:
    """Write one picture.

    Raises:
        UserError: the file cannot be read, its result cannot be written, or faces are still found in it.
    """
    picture = read_picture(path).picture
    removed = _revealed(path)
    faces, stubborn = find_faces(picture, detector), list[Box]()
    unchecked = result.with_name(f".unchecked{result.suffix}")  # nothing is left of it, whatever happens
    try:
        for number in range(_PASSES):
            changed = obscured(obscured(picture, faces, method), stubborn, "fill")
            # In sRGB, without a profile: some name the device that they were made for.
            write_picture(changed, unchecked, PictureFile(changed, Image.Exif(), None), _text(method))
            left = find_faces(read_picture(unchecked).picture, detector)
            if not left:
                unchecked.replace(result)
                boxes = [list(_widened(face, picture.size)) for face in (*faces, *stubborn)]
                return Deidentified(**{**asdict(planned), "faces": boxes, "removed": removed})
            (faces if number + 1 < _FILLED_FROM else stubborn).extend(left)
    except OSError as error:
        raise UserError(f"{shown(result)} cannot be written: {(error.strerror or str(error)).lower()}.") from error
    finally:
        unchecked.unlink(missing_ok=True)
    raise UserError("The detector still finds a face after all attempts to obscure it.", "Edit the picture by hand.")


def _text(method: Method) -> dict[str, str]:
    """Return the metadata of a result: that it was edited, and nothing about the original."""
    record = {"generated": False, "edited": True, "operations": f"deidentify faces={method}"}
    return {"Description": "Image edited: faces obscured, metadata removed", "aigc": json.dumps(record)}


def _widened(face: Box, size: tuple[int, int]) -> Box:
    across, down = round((face.right - face.left) * _MARGIN), round((face.bottom - face.top) * _MARGIN)
    return Box(
        max(0, face.left - across),
        max(0, face.top - down),
        min(size[0], face.right + across),
        min(size[1], face.bottom + down),
    )


def _revealed(path: Path) -> list[str]:
    """Return what a file's metadata reveals, such as "place" and "serial numbers"."""
    found: set[str] = set()
    with open_regular(path) as file:
        try:
            with Image.open(file) as image:
                found |= {what for key, what in _TEXTS.items() if image.info.get(key)}
                exif = image.getexif()
                tags = {*exif, *exif.get_ifd(_EXIF)}
                found |= {what for tag, what in _TELLING.items() if tag in tags}
                found |= {"place"} if exif.get_ifd(_GPS) else set()
                found |= {"thumbnail"} if exif.get_ifd(_THUMBNAIL) else set()
        except Exception:  # Pillow meets tags that it cannot read; nothing of them is written anyway
            found.add("unreadable metadata")
    return sorted(found)


def _state(path: Path) -> tuple[int, int]:
    """Return a file's size and time of modification; zeros if it is not there, which reading it will say."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _same_file(one: Deidentified, other: Deidentified) -> bool:
    return (one.size, one.modified, one.result) == (other.size, other.modified, other.result)


def _known(target: Path, settings: dict[str, str]) -> dict[str, Deidentified]:
    """Return what earlier calls have done, by file name.

    Raises:
        UserError: the target has other content, or was made with other settings.
    """
    path = target / REPORT
    if not path.exists():
        if target.is_dir() and any(not entry.name.startswith(".") for entry in target.iterdir()):
            raise UserError(f"{shown(target)} is not empty.", "Give a new folder, or one that this command has made.")
        return {}
    with open_regular(path) as file:
        first, *lines = file.read().decode("ascii", "replace").split("\n")
    try:
        made_with = dict(json.loads(first))
        # The last line may have been cut off by an interruption.
        found = [Deidentified(**json.loads(line)) for line in lines if line.endswith("}")]
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{shown(path)} was not written by this command.", "Give a new folder.") from error
    if made_with != settings:
        options = " ".join(f"--{name} {made_with[name]}" for name in ("faces", "detector") if name in made_with)
        what = f"{shown(target)} was made from {shown(made_with.get('source'))} with {options}."
        raise UserError(what, "Give another folder, or remove this one.")
    return {one.name: one for one in found}
