from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile

from aigc_lightning.core.io.pictures import image_grid, near_square, save_png, save_timelapse, to_picture, to_uint8


def test_to_uint8_rounds_and_clips():
    images = torch.tensor([-2.0, -1.0, 0.0, 0.999, 1.0, 3.0])
    assert to_uint8(images).tolist() == [0, 0, 128, 255, 255, 255]
    assert to_uint8(torch.arange(256) / 127.5 - 1).tolist() == list(range(256))


@pytest.mark.parametrize(("count", "columns"), [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (64, 8)])
def test_near_square(count: int, columns: int):
    assert near_square(count) == columns


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_cells_lie_row_by_row_enlarged_by_a_whole_factor(channels: int, mode: str):
    images = torch.randint(256, (3, channels, 32, 20), dtype=torch.uint8)
    grid = image_grid(images, columns=2)
    assert grid.mode == mode and grid.size == (2 * 40 + 2, 2 * 64 + 2)
    pixels = np.asarray(grid).reshape(130, 82, channels)
    for number, (top, left) in enumerate([(0, 0), (0, 42), (66, 0)]):
        cell = pixels[top : top + 64 : 2, left : left + 40 : 2]
        assert (cell == images[number].permute(1, 2, 0).numpy()).all()
    ground = pixels[66:, 42:].reshape(-1, channels)
    assert (ground == [255] * channels if channels < 4 else ground == [255, 255, 255, 0]).all()


@pytest.mark.parametrize(("size", "cell"), [(8, 64), (28, 84), (64, 64), (100, 100)])
def test_only_small_images_are_enlarged(size: int, cell: int):
    assert image_grid(torch.zeros(1, 1, size, size, dtype=torch.uint8), columns=8).size == (cell, cell)


def test_to_picture_keeps_every_pixel():
    image = torch.randint(256, (3, 5, 7), dtype=torch.uint8)
    assert (np.asarray(to_picture(image)) == image.permute(1, 2, 0).numpy()).all()


def test_png_files_carry_text_and_appear_at_once(tmp_path: Path):
    path = tmp_path / "made" / "grid.png"
    save_png(Image.new("L", (4, 4), 7), path, {"seeds": "0 1\n2 3"})
    with PngImageFile(path) as image:
        assert image.text == {"seeds": "0 1\n2 3"} and image.getpixel((0, 0)) == 7
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


def pictures(folder: Path, count: int, size: tuple[int, int] = (8, 8), mode: str = "L") -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("L", size, number).convert(mode).save(path)
    return paths


def test_a_timelapse_shows_evenly_chosen_frames_with_the_first_and_the_last(tmp_path: Path):
    save_timelapse(pictures(tmp_path, 200), tmp_path / "a.gif")
    with GifImageFile(tmp_path / "a.gif") as gif:
        shown: list[Any] = []
        for number in range(gif.n_frames):
            gif.seek(number)
            shown.append(gif.convert("L").getpixel((0, 0)))
        assert len(shown) == 60 and shown[0] == 0 and shown[-1] == 199
        assert set(np.diff(shown)) <= {3, 4}
        assert gif.info["duration"] == 2000 and gif.info["loop"] == 0


def test_a_timelapse_of_one_large_picture_is_made_smaller(tmp_path: Path):
    save_timelapse(pictures(tmp_path, 1, (2000, 1000), "RGBA"), tmp_path / "a.gif")
    assert Image.open(tmp_path / "a.gif").size == (768, 384)


def test_frames_of_another_size_are_fitted_to_the_last(tmp_path: Path):
    (tmp_path / "small").mkdir()
    paths = [*pictures(tmp_path / "small", 2, (10, 10), "RGB"), *pictures(tmp_path, 3, (20, 30), "RGB")]
    save_timelapse(paths, tmp_path / "a.gif")
    assert Image.open(tmp_path / "a.gif").size == (20, 30)


def test_groups_of_columns_have_room_between_them():
    images = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(-1, -1, 64, 64) * 20
    grid = image_grid(images, columns=6, group=2)
    assert grid.size == (6 * 64 + 3 * 2 + 2 * 10, 64)
    assert [grid.getpixel((left, 5)) for left in (0, 66, 140, 206, 280, 346)] == [0, 20, 40, 60, 80, 100]
    assert grid.getpixel((135, 5)) == 255
