"""ICC profiles in files of all kinds that hold them."""

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import product

import numpy as np
from PIL import Image

from image_files import expected
from image_files.icc_writer import ADOBE_RGB, DISPLAY_P3, SRGB, cmyk_profile, grey_profile, rgb_profile
from image_files.jpeg_writer import adobe, icc_markers, jpeg
from image_files.png_writer import GREY, RGB, icc_chunk, png
from image_files.table import Case, Row, noise
from image_files.tiff_writer import tiff

_HEIGHT, _WIDTH = 13, 15
_PROFILES = {
    "Display P3": (DISPLAY_P3, 2.2),
    "Adobe RGB": (ADOBE_RGB, 563 / 256),
    "linear sRGB": (SRGB, 1.0),
    "sRGB with gamma 2.2": (SRGB, 2.2),
}
_PROFILE = 34675


def rows() -> list[Row]:
    """Return the rows of the table."""
    return [
        Row(
            "ICC profiles",
            "RGB (Display P3, Adobe RGB, linear, gamma 2.2) in PNG, TIFF, JPEG and WebP, of 8 or 16 bits",
            "converted to sRGB",
            _rgb,
        ),
        Row("ICC profiles", "grey (gamma 1 to 2.2) in PNG, TIFF and JPEG, of 8 or 16 bits", "converted to sRGB", _grey),
        Row("ICC profiles", "CMYK in TIFF and JPEG", "converted to sRGB", _cmyk),
        Row(
            "ICC profiles",
            "damaged, or for other colours than the file has",
            "passed over with a word",
            _unusable,
        ),
    ]


def _writers(bits: int) -> dict[str, Callable[[np.ndarray, bytes], bytes]]:
    """Return what writes samples (H, W, 1 or 3) with a profile, without loss."""

    def as_png(samples: np.ndarray, profile: bytes) -> bytes:
        return png(samples, bits, GREY if samples.shape[2] == 1 else RGB, chunks={b"iCCP": icc_chunk(profile)})

    def as_tiff(samples: np.ndarray, profile: bytes) -> bytes:
        photometric = 1 if samples.shape[2] == 1 else 2
        return tiff(samples, bits, photometric=photometric, compression="LZW", tags={_PROFILE: ("U", profile)})

    def as_webp(samples: np.ndarray, profile: bytes) -> bytes:
        stream = BytesIO()
        Image.fromarray(samples.astype(np.uint8)).save(stream, "WEBP", lossless=True, icc_profile=profile)
        return stream.getvalue()

    return {"PNG": as_png, "TIFF": as_tiff} | ({"WebP": as_webp} if bits == 8 else {})


def _rgb() -> Iterator[Case]:
    for (name, (primaries, gamma)), bits in product(_PROFILES.items(), (8, 16)):
        profile = rgb_profile(primaries, gamma)
        samples = noise(_HEIGHT, _WIDTH, 3, 2**bits)
        shown = expected.picture(expected.from_rgb_profile(samples / (2**bits - 1), primaries, gamma))
        for kind, write in _writers(bits).items():
            yield Case(f"{name} in {bits}-bit {kind}", write(samples, profile), shown, levels=2)
    primaries, gamma = _PROFILES["Display P3"]
    levels = noise(2, 3, 3)
    profile = rgb_profile(primaries, gamma)
    shown = expected.from_rgb_profile(levels.repeat(8, axis=0).repeat(8, axis=1) / 255, primaries, gamma)
    yield Case(
        "Display P3 in JPEG", jpeg(levels, markers=adobe(0) + icc_markers(profile)), expected.picture(shown), levels=2
    )


def _grey() -> Iterator[Case]:
    for gamma, bits in product((1.0, 1.8, 2.2), (8, 16)):
        profile = grey_profile(gamma)
        samples = noise(_HEIGHT, _WIDTH, 1, 2**bits)
        shown = expected.picture(expected.encoded((samples / (2**bits - 1)) ** (round(256 * gamma) / 256)))
        for kind, write in _writers(bits).items():
            if kind != "WebP":
                yield Case(f"gamma {gamma} in {bits}-bit {kind}", write(samples, profile), shown, levels=2)
    levels = noise(2, 3, 1)
    shown = expected.encoded((levels.repeat(8, axis=0).repeat(8, axis=1) / 255) ** (round(256 * 1.8) / 256))
    yield Case(
        "gamma 1.8 in JPEG", jpeg(levels, markers=icc_markers(grey_profile(1.8))), expected.picture(shown), levels=2
    )


def _cmyk() -> Iterator[Case]:
    corners = np.random.default_rng(0).uniform([30, -40, -40], [90, 40, 40], (16, 3))
    corners[0], corners[1], corners[15] = (100, 0, 0), (0, 0, 0), (0, 0, 0)
    profile = cmyk_profile(corners)
    on = (np.arange(16)[:, None] >> np.arange(3, -1, -1) & 1).astype(np.uint64)
    encoded = np.round(corners * [2.55, 1, 1] + [0, 128, 128]) - [0, 128, 128]
    shown = expected.from_lab((encoded / [2.55, 1, 1])[None])
    for bits in (8, 16):
        samples = (on * np.uint64(2**bits - 1))[None]
        data = tiff(samples, bits, photometric=5, tags={_PROFILE: ("U", profile)})
        yield Case(f"all inks off and on in {bits}-bit TIFF", data, expected.picture(shown), levels=3)
    inverted = (255 - 255 * on)[None]
    data = jpeg(inverted, markers=adobe(0) + icc_markers(profile))
    blocks = shown.repeat(8, axis=0).repeat(8, axis=1)
    yield Case("all inks off and on in JPEG", data, expected.picture(blocks), levels=3)


def _unusable() -> Iterator[Case]:
    whole = rgb_profile(DISPLAY_P3, 2.2)
    unusable = {
        "cut": whole[:200],
        "noise": noise(1, 400, 1).astype(np.uint8).tobytes(),
        "of a header alone": whole[:128],
        "for grey": grey_profile(1.8),
        "for CMYK": cmyk_profile(np.zeros((16, 3))),
    }
    for (name, profile), bits in product(unusable.items(), (8, 16)):
        samples = noise(_HEIGHT, _WIDTH, 3, 2**bits)
        shown = expected.picture(samples / (2**bits - 1))
        for kind, write in _writers(bits).items():
            yield Case(f"a profile {name} in {bits}-bit {kind}", write(samples, profile), shown)
    samples = noise(_HEIGHT, _WIDTH, 3)
    data = png(samples, 8, RGB, chunks={b"iCCP": b"test\0\0no zlib stream"})
    yield Case("a chunk that cannot be decompressed", data, expected.picture(samples / 255))
