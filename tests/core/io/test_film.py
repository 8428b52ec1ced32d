"""Films that play: the frames come back."""

import importlib.util

import numpy as np
import pytest
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from aigc_lightning.core.io.film import write_film
from aigc_lightning.errors import UserError


def frames(mode="RGB", size=(31, 20), count=5):
    for number in range(count):
        frame = Image.new(mode, size, 255 if mode == "L" else (255, 255, 255, 255)[: len(mode)])
        frame.paste(0 if mode == "L" else (200, 0, 0, 255)[: len(mode)], (number * 5, 0, number * 5 + 6, 20))
        yield frame


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_gif_holds_all_frames_and_plays_forever(tmp_path, mode):
    path = tmp_path / "new" / "a.gif"
    write_film(frames(mode), path, "said")
    with GifImageFile(path) as film_:
        assert film_.n_frames == 5 and film_.info["loop"] == 0 and film_.info["duration"] == 50
        assert film_.info["comment"] == b"said"
        for number, frame in enumerate(frames("RGBA" if mode == "RGBA" else mode)):
            film_.seek(number)
            found = np.asarray(film_.convert("RGB")).astype(int)
            assert abs(found - np.asarray(frame.convert("RGB"))).max() <= 8
    assert [file.name for file in path.parent.iterdir()] == ["a.gif"]


def test_transparency_lies_on_white(tmp_path):
    write_film([Image.new("RGBA", (8, 8), (0, 0, 0, 0))] * 2, tmp_path / "a.gif", "")
    assert np.asarray(Image.open(tmp_path / "a.gif").convert("RGB")).min() == 255


@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="PyAV is an extra")
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_mp4_holds_all_frames(tmp_path, mode):
    import av

    path = tmp_path / "a.mp4"
    write_film(frames(mode, (61, 40)), path, "said")
    with av.open(str(path)) as container:
        assert container.metadata["comment"] == "said" and container.streams.video[0].average_rate == 20
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == 5
    for shown, frame in zip(found, frames(mode, (61, 40)), strict=True):
        assert shown.shape == (40, 62, 3)  # an even width
        assert abs(shown[:, :61].astype(int) - np.asarray(frame.convert("RGB"))).mean() < 8


def test_other_endings_and_a_missing_package_are_refused(tmp_path, monkeypatch):
    for name in ("a.avi", "a", "a.png"):
        with pytest.raises(UserError, match="not a supported kind of film"):
            write_film(frames(), tmp_path / name, "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        write_film(frames(), tmp_path / "a.mp4", "")
    assert "aigc-lightning[video]" in caught.value.hint
    assert not list(tmp_path.iterdir())
