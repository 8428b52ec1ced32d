import os
import threading
from importlib.util import find_spec

import pytest
from PIL import Image

from aigc_lightning.data.decode import CorruptImageError, decode
from aigc_lightning.data.decoding import formats
from aigc_lightning.data.decoding.formats import FORMATS, SUFFIXES, identify, passed_over


def without(monkeypatch, *modules):
    """Make packages seem not to be installed."""
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name in modules else find_spec(name))


def test_all_endings_are_lower_case_and_belong_to_one_format():
    endings = [ending for format_ in FORMATS for ending in format_.endings]
    assert len(endings) == len(set(endings))
    assert all(ending.startswith(".") and ending == ending.lower() for ending in endings)
    assert {".jpg", ".png", ".tif", ".tga", ".webp"} <= set(SUFFIXES) <= set(endings)


def test_a_format_whose_package_is_missing_says_how_to_get_it(monkeypatch, tmp_path):
    without(monkeypatch, "pillow_heif", "pillow_jxl")
    path = tmp_path / "a.jpg"  # as phones export them
    for head, name in ((b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"\xff\x0a" + bytes(30), "JPEG XL")):
        path.write_bytes(head)
        with pytest.raises(CorruptImageError, match=rf'it is {name}, .*pip install "aigc-lightning\[formats\]"'):
            decode(path)


def test_avif_and_heic_are_told_apart_by_all_brands():
    assert identify(b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf").name == "AVIF"
    assert identify(b"\0\0\0\x1cftypavis\0\0\0\0avisavif").name == "AVIF"


def test_files_are_known_by_what_they_hold(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.jpg", format="PNG")
    assert decode(tmp_path / "a.jpg")[:, 0, 0].tolist() == [255, 0, 0]


def test_what_is_passed_over_is_told_by_ending(monkeypatch):
    without(monkeypatch, "pillow_heif")
    text = passed_over({".txt": 9, ".heic": 2, "": 1, **{f".{number}": 1 for number in range(6)}}, limit=3)
    assert text.startswith('2 .heic (pip install "aigc-lightning[formats]"), ') and text.endswith("6 others")
    assert passed_over({"": 1200}) == "1,200 without an extension"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    done = []

    def read():
        with pytest.raises(CorruptImageError, match="not a regular file"):
            decode(tmp_path / "a.png")
        done.append(True)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert done


def test_jpeg_xl_is_refused_by_its_header(monkeypatch):
    if not next(format_ for format_ in FORMATS if format_.name == "JPEG XL").available:
        pytest.skip("pillow-jxl-plugin is not installed")
    # SizeHeader: not small, a height of 1 + 9999 in 18 bits, ratio 1:1
    bits = 0 | 2 << 1 | 9999 << 3 | 1 << 21
    with pytest.raises(CorruptImageError, match="10000x10000 is 100 megapixels"):
        decode(b"\xff\x0a" + bits.to_bytes(20, "little"))
