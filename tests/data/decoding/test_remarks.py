import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_files.icc_writer import DISPLAY_P3, rgb_profile
from image_files.png_writer import RGB, icc_chunk, png
from image_files.table import noise
from image_files.tiff_writer import tiff
from PIL import Image, TiffImagePlugin

from aigc_lightning.data import decode as module
from aigc_lightning.data.decode import CorruptImageError, decode, load
from aigc_lightning.data.decoding.remarks import Listening, remark

BROKEN_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # says that five entries follow


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    monkeypatch.setattr(module, "_told", set())


def odd(path):
    """Write a picture whose EXIF tags are broken, about which Pillow warns."""
    Image.new("RGB", (8, 8), "red").save(path, exif=BROKEN_EXIF)
    return path


def test_an_odd_file_is_named_in_one_line(tmp_path, caplog, capfd):
    path = odd(tmp_path / "a.jpg")
    for _ in range(3):
        assert decode(path).shape == (3, 8, 8)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: Corrupt EXIF data. Expecting to read 12 bytes but only got 0."
    ]
    assert capfd.readouterr().err == ""


def test_each_of_many_odd_files_is_heard_and_a_few_are_named(tmp_path, caplog):
    paths = [odd(tmp_path / f"{number}.jpg") for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert all("Corrupt EXIF" in load(path).remarks[0] for path in paths)
        [*pool.map(decode, paths)]
    lines = [record.getMessage() for record in caplog.records]
    assert (
        len(lines) == 6
        and lines[-1].startswith("There are remarks about more files")
        and "`aigc data check`" in lines[-1]
    )


def test_threads_hear_their_own_files():
    def hear(number):
        with Listening() as remarks:
            remark(f"about {number}")
            return remarks

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(hear, range(50))] == [[f"about {number}"] for number in range(50)]


def test_other_warnings_go_where_they_went():
    with Listening():
        pass
    with pytest.warns(UserWarning, match="not about a file"):
        warnings.warn("not about a file", stacklevel=1)


def test_whoever_replaces_the_display_of_warnings_later_is_asked(tmp_path, monkeypatch):
    shown = []
    load(odd(tmp_path / "a.jpg"))
    before = warnings.showwarning

    def show(*given, **more):
        shown.append(given[0])
        if str(given[0]) != "mine":
            before(*given, **more)

    monkeypatch.setattr(warnings, "showwarning", show)
    assert load(odd(tmp_path / "b.jpg")).remarks
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(UserWarning("mine"), UserWarning, "file", 1)
    assert [str(warning) for warning in shown] == ["mine"]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4"])
def test_libtiff_writes_nothing_and_its_words_are_the_reason(tmp_path, compression, capfd):
    """Pillow takes some of these files for whole."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).convert("1" if compression == "group4" else "L").save(path, compression=compression)
    content = bytearray(path.read_bytes())
    with TiffImagePlugin.TiffImageFile(path) as image:
        begin, size = image.tag_v2[273][0], image.tag_v2[279][0]
    content[begin + size // 2 : begin + size // 2 + 40] = b"\xff\x92\x5a\xa5" * 10
    path.write_bytes(content)
    with pytest.raises(CorruptImageError, match=r"a\.tif .*: a broken TIFF: [A-Z]") as caught:
        decode(path)
    assert "decoder error" not in caught.value.reason
    assert capfd.readouterr().err == ""


def test_a_broken_profile_is_passed_over_with_a_word(tmp_path, caplog):
    samples = noise(8, 8, 3)
    profile = rgb_profile(DISPLAY_P3, 2.2)[:200]
    path = tmp_path / "a.png"
    path.write_bytes(png(samples, 8, RGB, chunks={b"iCCP": icc_chunk(profile)}))
    assert np.array_equal(decode(path).permute(1, 2, 0).numpy(), samples)
    assert f"{path}: its colour profile is broken" in caplog.text


def test_tifffile_is_heard(tmp_path, caplog, capfd):
    data = tiff(noise(8, 8, 1), 12, tags={306: ("Q", [1]), 42113: ("A", b"no number\0")})
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with caplog.at_level(logging.DEBUG):
        assert load(path).remarks
    assert "tifffile" not in {record.name for record in caplog.records}
    assert capfd.readouterr().err == ""


def test_a_tiff_that_ends_before_its_first_page_is_said_to(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\xff\xff\0\0" + bytes(40))  # the page is said to lie beyond
    with pytest.raises(CorruptImageError, match="a broken TIFF: it ends too early"):
        decode(path)


def test_without_libtiffs_names_files_are_read_all_the_same(monkeypatch, tmp_path):
    from aigc_lightning.data.decoding import remarks

    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    remarks._hear_libtiff.cache_clear()
    path = tmp_path / "a.tif"
    Image.new("L", (8, 8), 9).save(path, compression="tiff_lzw")
    assert decode(path, 1).unique().tolist() == [9]
    remarks._hear_libtiff.cache_clear()
