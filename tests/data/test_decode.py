import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lightning.data.decode import CorruptImageError, decode, resize_rule
from aigc_lightning.data.decoding import picture as picture_module
from aigc_lightning.errors import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def picture():
    """Return 2 rows of 3 pixels, all different."""
    colors = np.array([[RED, GREEN, BLUE], [(10, 20, 30), (40, 50, 60), (70, 80, 90)]], np.uint8)
    return Image.fromarray(colors)


def noise(height=64, width=64):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def pixel(image, y=0, x=0):
    return tuple(image[:, y, x].tolist())


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_their_pixels(tmp_path, file_format):
    path = tmp_path / f"picture.{file_format.lower()}"
    path.write_bytes(encoded(picture(), file_format, **({"lossless": True} if file_format == "WEBP" else {})))
    expected = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    for source in (path, str(path), path.read_bytes()):
        image = decode(source)
        assert image.dtype == torch.uint8 and image.is_contiguous()
        assert torch.equal(image, expected)


@pytest.mark.parametrize(("channels", "expected"), [(1, (76,)), (3, RED), (4, (*RED, 255))])
def test_channels_are_those_asked_for(channels, expected):
    # 76 is 0.299 * 255, the weight of red in the luma of ITU-R BT.601.
    assert pixel(decode(encoded(picture()), channels)) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_undone(orientation, file_format):
    """Store the picture turned, with the tag that says how, and expect it upright."""
    upright = picture().resize((96, 64), Image.Resampling.NEAREST)
    store = Image.Transpose
    turns = [None, None, store.FLIP_LEFT_RIGHT, store.ROTATE_180, store.FLIP_TOP_BOTTOM]
    turns += [store.TRANSPOSE, store.ROTATE_90, store.TRANSVERSE, store.ROTATE_270]
    turn = turns[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    image = decode(encoded(stored, file_format, exif=exif))
    assert image.shape == (3, 64, 96)
    difference = (image.int() - torch.from_numpy(np.array(upright)).permute(2, 0, 1).int()).abs()
    assert difference.float().mean() < 6  # JPEG smears the edges


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_grey_is_scaled(file_format):
    levels = np.array([[0, 128, 129, 257 * 100, 65535]], np.uint16)
    image = decode(encoded(Image.fromarray(levels), file_format), 1)
    assert image[0, 0].tolist() == [0, 0, 1, 100, 255]


def transparent_palette():
    image = Image.new("P", (3, 2), 1)
    image.putpalette([*RED, *BLUE])
    return encoded(image, transparency=1)


@pytest.mark.parametrize(
    ("data", "color"),
    [
        (encoded(Image.new("RGBA", (3, 2), (*BLUE, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (3, 2), (*BLUE, 51))), (204, 204, 255)),
        (encoded(Image.new("LA", (3, 2), (0, 51))), (204, 204, 204)),
        (encoded(Image.new("RGB", (3, 2), BLUE), transparency=BLUE), (255, 255, 255)),
        (transparent_palette(), (255, 255, 255)),
    ],
    ids=["RGBA", "half RGBA", "LA", "RGB with a key", "palette"],
)
def test_transparency_is_laid_on_white(data, color):
    assert pixel(decode(data)) == color
    assert decode(data, 1).unique().numel() == 1


def test_transparency_is_kept_in_four_channels():
    assert pixel(decode(encoded(Image.new("RGBA", (3, 2), (*BLUE, 51))), 4)) == (*BLUE, 51)
    assert pixel(decode(transparent_palette(), 4)) == (*BLUE, 0)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_gives_every_number_of_channels(mode, channels):
    picture = Image.new(mode, (3, 2))
    image = decode(encoded(picture, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"), channels)
    assert image.shape == (channels, 2, 3)


def test_one_bit_palette_and_cmyk_keep_their_colors():
    assert pixel(decode(encoded(Image.new("1", (3, 2), 1)))) == (255, 255, 255)
    assert pixel(decode(encoded(picture().convert("P", palette=Image.Palette.ADAPTIVE)))) == RED
    assert pixel(decode(encoded(Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "TIFF"))) == RED


def test_animations_give_their_first_picture():
    frames = [Image.new("RGB", (3, 2), color) for color in (RED, GREEN)]
    for file_format in ("GIF", "PNG", "WEBP"):
        data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
        red, green, blue = pixel(decode(data))
        assert red > 240 and green < 15 and blue < 15


def test_resize_rules_reach_the_size():
    wide = Image.new("RGB", (40, 20), RED)
    wide.paste(GREEN, (10, 0, 30, 20))  # the middle half
    cropped, padded, stretched = (
        decode(encoded(wide), size=(10, 10), resize=rule) for rule in ("crop", "pad", "stretch")
    )
    assert cropped.shape == padded.shape == stretched.shape == (3, 10, 10)
    assert pixel(cropped, 5, 2) == pixel(cropped, 5, 7) == GREEN
    assert pixel(padded, 0, 5) == (255, 255, 255) and pixel(padded, 5, 0) == RED and pixel(padded, 5, 5) == GREEN
    assert pixel(stretched, 0, 0) == RED and pixel(stretched, 5, 5) == GREEN and pixel(stretched, 9, 9) == RED


@pytest.mark.parametrize("rule", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 999), (999, 1), (31, 17), (7, 13)])
def test_resize_takes_every_shape(rule, shape):
    assert decode(encoded(noise(*shape)), size=(7, 13), resize=rule).shape == (3, 7, 13)


def test_an_image_of_the_right_size_is_left_alone():
    for rule in ("crop", "pad", "stretch"):
        assert torch.equal(decode(encoded(noise()), size=(64, 64), resize=rule), decode(encoded(noise())))


def test_downscaling_is_antialiased():
    stripes = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (64, 32)))
    small = decode(encoded(stripes), 1, size=(8, 8))
    assert small.min() > 100 and small.max() < 155


def test_hidden_colors_do_not_bleed_into_what_is_seen():
    image = Image.new("RGBA", (64, 64), (*GREEN, 0))
    image.paste((*RED, 255), (0, 0, 32, 64))
    small = decode(encoded(image), 4, size=(9, 9))
    seen = small[:, small[3] > 0]
    assert seen[1].max() == 0 and seen[0].min() == 255


def test_padding_is_transparent_in_rgba():
    assert pixel(decode(encoded(Image.new("RGBA", (40, 20))), 4, size=(10, 10), resize="pad")) == (255, 255, 255, 0)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_files_are_named(tmp_path, file_format):
    data = encoded(noise(), file_format)
    path = tmp_path / "cut.png"
    for length in (0, 10, len(data) // 2, len(data) * 9 // 10):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptImageError, match=r"cut\.png cannot be read as an image"):
            decode(path)


def test_damage_text_and_absence_are_told_apart(tmp_path):
    damaged = bytearray(encoded(noise()))
    damaged[len(damaged) // 2] ^= 0xFF
    text = tmp_path / "text.jpg"
    text.write_text("I am no image")
    for source, reason in ((bytes(damaged), "stream"), (text, "none of JPEG"), (tmp_path / "none.jpg", "no such file")):
        with pytest.raises(CorruptImageError, match=reason):
            decode(source)
    with pytest.raises(CorruptImageError, match="directory"):
        decode(tmp_path)


def test_too_many_pixels_are_refused_by_the_header(monkeypatch):
    image = Image.new("1", (9000, 8000))
    with pytest.raises(CorruptImageError, match="9000x8000 is 72 megapixels, more than the 64 allowed"):
        decode(encoded(image))
    # Without its pixels the file would be called truncated if they were asked for.
    header = encoded(noise(100, 100))[:60]
    with pytest.raises(CorruptImageError, match="100x100"):
        decode(header, max_pixels=9999)
    assert decode(encoded(noise(100, 100)), max_pixels=10000).shape == (3, 100, 100)


def test_the_error_survives_its_way_between_processes():
    error = pickle.loads(pickle.dumps(CorruptImageError("a/b.png", "it is cut")))
    assert (error.path, error.reason, error.what) == (
        "a/b.png",
        "it is cut",
        "a/b.png cannot be read as an image: it is cut.",
    )
    assert isinstance(error, UserError) and error.hint


def test_formats_that_run_programs_are_not_opened():
    with pytest.raises(CorruptImageError, match="it is a PostScript file"):
        decode(encoded(picture(), "EPS"))


def test_a_full_memory_is_not_blamed_on_the_file(monkeypatch):
    def full(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(picture_module, "open_with_pillow", full)
    with pytest.raises(MemoryError):
        decode(encoded(picture()))


def test_unknown_wishes_are_refused():
    with pytest.raises(UserError, match="2 channels"):
        decode(encoded(picture()), 2)
    with pytest.raises(UserError, match=r'(?s)no resize rule "croop".*Did you mean crop'):
        resize_rule("croop")
