"""TIFF files: any number of bits, sample format, photometric, layout and byte order.

Pillow shows some of these too dark, inverted or not at all. So here tifffile parses the structure, libtiff (inside
Pillow) decompresses, and numpy does the rest. Pillow reads pages stored as JPEG, CCITT fax or WebP. Specification: TIFF
6.0 (Adobe, 1992) with its technical notes 1 to 3. Shapes: H and W height and width of the picture, S samples per pixel.
"""

import io
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from aigc_lightning.data.decoding.formats import RefusedError, check_pixels
from aigc_lightning.data.decoding.remarks import hear_tifffile, watching_libtiff

Bytes = npt.NDArray[np.uint8]
Samples = npt.NDArray[Any]

UNSIGNED, SIGNED, FLOAT, _UNDEFINED = 1, 2, 3, 4  # SampleFormat
_BYTE_CODECS = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, Deflate, PackBits, Deflate, LZMA, ZSTD
_IMAGE_CODECS = {2, 3, 4, 6, 7, 50001}  # CCITT, JPEG, WebP
_JPEG = {6, 7}
_YCBCR = 6  # PhotometricInterpretation
_FLOAT_BITS = (16, 32, 64)
_MOST_SAMPLES = 64
_MOST_BYTES = 2**31  # maximum size of a page's pixels before they are scaled to 8 bits
_AT_ONCE = 2**24  # bytes of pixels decompressed or unpacked at once


class Page(NamedTuple):
    """The first picture of a file, as stored.

    Args:
        samples: (H, W, S) as stored: unsigned or signed integers, or floating-point numbers.
        bits: of each sample.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        tags: the values of all tags by number.
        orientation: value of the Orientation tag, 1 to 8.
    """

    samples: Samples
    bits: int
    sample_format: int
    tags: dict[int, Any]
    orientation: int


def first_page(stream: BinaryIO) -> Any:
    """Return tifffile's page object of the first picture of a file, from its header."""
    from tifffile import TiffFile  # the import takes a tenth of a second

    hear_tifffile()
    try:
        return TiffFile(stream).pages[0]
    except IndexError as error:
        raise ValueError("it ends too early") from error
    except TypeError as error:  # such as sample formats that differ
        raise RefusedError("a TIFF with tags of unexpected types, which is not supported") from error


def read_page(stream: BinaryIO, max_pixels: int) -> Page | None:
    """Return the first picture of a file, or None if Pillow is to read it.

    Raises:
        ValueError: it is damaged or not supported; the message gives the reason.
    """
    page = first_page(stream)
    check_pixels(page.imagewidth, page.imagelength, max_pixels)
    codec = int(page.compression)
    if codec in _IMAGE_CODECS:
        if codec in _JPEG and page.bitspersample != 8:
            raise RefusedError(
                f"a TIFF that holds a JPEG with {page.bitspersample} bits per sample, which is not supported"
            )
        return None
    if codec not in _BYTE_CODECS:
        from tifffile import COMPRESSION

        name = COMPRESSION(codec).name if codec in {*COMPRESSION} else f"number {codec}"
        raise RefusedError(f"a TIFF with the compression {name}, which is not supported")
    layout = _layout(page)
    samples = _samples(page, layout)
    tags = {tag.code: tag.value for tag in page.tags}
    orientation = tags.get(274, 1)
    return Page(samples, layout.bits, layout.sample_format, tags, orientation if orientation in range(1, 9) else 1)


class _Layout(NamedTuple):
    """The layout of samples in the strips or tiles of a page.

    Args:
        bits: bits per sample.
        sample_format: as in `Page`.
        planes: 1, or S if each sample has its own plane.
        together: number of interleaved samples in a plane.
        width: of a strip or tile in pixels.
        rows: number of rows of a strip or tile; the last strip may have fewer.
        tiled: whether they are tiles.
        order: byte order "<" or ">" of samples of whole bytes.
        block: columns and rows of pixels that share chroma. A block then replaces the pixel in all of the above, with
            one luma sample per pixel and two chroma samples.
    """

    bits: int
    sample_format: int
    planes: int
    together: int
    width: int
    rows: int
    tiled: bool
    order: str
    block: tuple[int, int] = (1, 1)

    @property
    def row_bytes(self) -> int:
        """Number of bytes in a row of a strip or tile."""
        return -(-self.width * self.together * self.bits // 8)


def _layout(page: Any) -> _Layout:
    """Return the layout of a tifffile page.

    Raises:
        ValueError: it is not supported.
    """
    bits, sample_format, count = page.bitspersample, page.sampleformat, page.samplesperpixel
    if not isinstance(bits, int) or not isinstance(sample_format, int):
        raise RefusedError(f"a TIFF whose samples differ (bits {bits}, format {sample_format}), which is not supported")
    if sample_format == _UNDEFINED:  # the specification: treat as unsigned
        sample_format = UNSIGNED
    whole = sample_format in (UNSIGNED, SIGNED) and (sample_format <= bits <= 32 or bits == 64)
    if not whole and not (sample_format == FLOAT and bits in _FLOAT_BITS):
        kind = {1: "unsigned", 2: "signed", 3: "floating-point"}.get(sample_format, "complex")
        raise RefusedError(f"a TIFF with {kind} samples of {bits} bits, which is not supported")
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise RefusedError("a TIFF of a volume, which is not supported")
    if not 1 <= count <= _MOST_SAMPLES or page.imagewidth * page.imagelength * count * bits > 8 * _MOST_BYTES:
        raise RefusedError(f"a TIFF with {count} samples of {bits} bits per pixel, which is too much")
    if page.predictor not in (1, 2, 3) or (page.predictor == 2 and bits not in (8, 16, 32, 64)):
        raise RefusedError(f"a TIFF with the predictor {int(page.predictor)} for {bits} bits, which is not supported")
    separate = page.planarconfig == 2 and count > 1
    width, rows = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
    if width < 1 or rows < 1 or width * rows * count * bits > 8 * _MOST_BYTES:
        raise ValueError(f"its tiles or strips are declared as {width}x{rows}")
    planes, together = (count, 1) if separate else (1, count)
    across, down = _block(page)
    if across * down > 1:
        if separate or count != 3:
            raise RefusedError("a TIFF with subsampled chroma in a separate plane, which is not supported")
        together, width, rows = across * down + 2, -(-width // across), -(-rows // down)
    tiled, order = page.is_tiled, page.parent.byteorder
    return _Layout(bits, sample_format, planes, together, width, rows, tiled, order, (across, down))


def _block(page: Any) -> tuple[int, int]:
    """Return the number of columns and rows of pixels that share chroma."""
    if page.photometric != _YCBCR:
        return 1, 1
    across, down = page.subsampling or (2, 2)  # the specification's default
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise ValueError(f"its chroma is declared as subsampled by {across} and {down}")
    return across, down


def _samples(page: Any, layout: _Layout) -> Samples:
    """Return all samples of a page (H, W, S)."""
    columns, lines = layout.block
    width, height = -(-page.imagewidth // columns), -(-page.imagelength // lines)
    across, down = -(-width // layout.width), -(-height // layout.rows)
    per_plane = across * down
    number = min(len(page.dataoffsets), len(page.databytecounts))
    if number < layout.planes * per_plane:
        raise ValueError(f"it names {number} of {layout.planes * per_plane} strips or tiles")
    heights = [layout.rows] * per_plane
    if not layout.tiled:
        heights[-1] = height - (down - 1) * layout.rows
    planes = []
    for plane in range(layout.planes):
        segments = range(plane * per_plane, (plane + 1) * per_plane)
        stored = _bands(page, layout, segments, heights)
        bands = [_unpredicted(_unpacked(band, page, layout), page, layout) for band in stored]
        rows = bands[0] if len(bands) == 1 else np.concatenate(bands)
        if layout.tiled:
            tiles = rows.reshape(down, across, layout.rows, layout.width, layout.together)
            rows = tiles.swapaxes(1, 2).reshape(down * layout.rows, across * layout.width, layout.together)
        planes.append(rows[:height, :width])
    samples = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    return (
        samples if layout.block == (1, 1) else _pixels_of_blocks(samples, layout)[: page.imagelength, : page.imagewidth]
    )


def _pixels_of_blocks(blocks: Samples, layout: _Layout) -> Samples:
    """Expand blocks that share chroma to three samples per pixel."""
    across, down = layout.block
    height, width, count = blocks.shape
    luma = blocks[:, :, : count - 2].reshape(height, width, down, across).swapaxes(1, 2)
    chroma = blocks[:, :, count - 2 :].repeat(down, axis=0).repeat(across, axis=1)
    return np.concatenate([luma.reshape(height * down, width * across, 1), chroma], axis=2)


def _bands(page: Any, layout: _Layout, segments: range, heights: list[int]) -> Iterator[Bytes]:
    """Yield the bytes of the rows of strips or tiles (R, bytes per row), several at once."""
    at_once = max(1, _AT_ONCE // (layout.rows * layout.row_bytes))
    for first in range(0, len(segments), at_once):
        stored = [_segment(page, number) for number in segments[first : first + at_once]]
        yield _decompressed(stored, int(page.compression), layout.row_bytes, heights[first : first + at_once])


def _segment(page: Any, number: int) -> bytes:
    """Return the stored bytes of a strip or tile."""
    handle, size = page.parent.filehandle, page.databytecounts[number]
    if not 0 < size <= handle.size:
        raise ValueError(f"a strip or tile is missing ({size} bytes)")
    handle.seek(page.dataoffsets[number])
    data: bytes = handle.read(size)
    if len(data) < size:
        raise ValueError("it ends too early")
    return (
        np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
        if page.fillorder == 2
        else data
    )


def _decompressed(segments: list[bytes], codec: int, row_bytes: int, heights: list[int]) -> Bytes:
    """Return the rows of some strips or tiles (R, bytes per row)."""
    if codec == 1:
        parts = [segment[: row_bytes * rows] for segment, rows in zip(segments, heights, strict=True)]
        if any(len(part) < row_bytes * rows for part, rows in zip(parts, heights, strict=True)):
            raise ValueError("it ends too early")
        return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, row_bytes)
    # libtiff gets the data as a grey picture with one byte per pixel: its codecs work on bytes.
    with watching_libtiff(), TiffImagePlugin.TiffImageFile(_as_grey(segments, codec, row_bytes, heights)) as image:
        return np.asarray(image)


def _as_grey(segments: list[bytes], codec: int, row_bytes: int, heights: list[int]) -> io.BytesIO:
    """Return a TIFF with these strips as 8-bit grey pixels."""
    entries: dict[int, list[int]] = {256: [row_bytes], 257: [sum(heights)], 258: [8], 259: [codec], 262: [1]}
    entries |= {273: [0] * len(segments), 277: [1], 278: [heights[0]], 279: [len(segment) for segment in segments]}
    data = 8 + 2 + 12 * len(entries) + 4
    values = {tag: data + 4 * len(segments) * place for place, tag in enumerate((273, 279))}
    data += 8 * len(segments)
    entries[273] = (data + np.cumsum([0, *entries[279][:-1]])).tolist()
    file = [struct.pack("<2sHIH", b"II", 42, 8, len(entries))]
    for tag, numbers in entries.items():
        file.append(struct.pack("<HHII", tag, 4, len(numbers), numbers[0] if len(numbers) == 1 else values[tag]))
    file += [struct.pack("<I", 0), *(struct.pack(f"<{len(segments)}I", *entries[tag]) for tag in (273, 279)), *segments]
    return io.BytesIO(b"".join(file))


def _unpacked(rows: Bytes, page: Any, layout: _Layout) -> Samples:
    """Unpack rows of bytes into samples (R, width, S) in native byte order."""
    bits, shape = layout.bits, (len(rows), layout.width, layout.together)
    letter = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[layout.sample_format]
    if page.predictor == 3:
        return _float_unpredicted(rows, layout).reshape(shape)
    if bits in (8, 16, 32, 64):
        numbers = rows.reshape(-1).view(f"{layout.order}{letter}{bits // 8}")
        return numbers.astype(f"={letter}{bits // 8}", copy=False).reshape(shape)
    wide = 8 if bits < 8 else 16 if bits < 16 else 32
    if bits % 8 == 0:  # 24
        ordered = rows.reshape(-1, bits // 8)[:, :: -1 if layout.order == "<" else 1]
        filled = np.zeros((len(ordered), wide // 8), np.uint8)
        filled[:, -bits // 8 :] = ordered
    else:
        filled = _spread(rows, bits, wide, layout.width * layout.together)
    numbers = filled.reshape(-1).view(f">u{wide // 8}").astype(f"=u{wide // 8}").reshape(shape)
    if layout.sample_format == SIGNED:
        numbers = (numbers << (wide - bits)).view(f"=i{wide // 8}") >> (wide - bits)
    return numbers


def _spread(rows: Bytes, bits: int, wide: int, count: int) -> Bytes:
    """Unpack the first `count` numbers of each row from `bits` to `wide` bits."""
    parts = []
    step = max(1, _AT_ONCE // (count * wide))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        ones = np.unpackbits(part, axis=1)[:, : count * bits].reshape(len(part), count, bits)
        filled = np.zeros((len(part), count, wide), np.uint8)
        filled[:, :, wide - bits :] = ones
        parts.append(np.packbits(filled.reshape(len(part), -1), axis=1))
    return np.concatenate(parts)


def _unpredicted(samples: Samples, page: Any, layout: _Layout) -> Samples:
    """Undo horizontal differencing of samples."""
    if page.predictor != 2:
        return samples
    numbers = samples.view(f"=u{layout.bits // 8}")
    return np.cumsum(numbers, axis=1, dtype=numbers.dtype).view(samples.dtype)


def _float_unpredicted(rows: Bytes, layout: _Layout) -> Samples:
    """Undo the floating-point predictor: each row has differences of bytes, the most significant bytes first."""
    if layout.sample_format != FLOAT:
        raise ValueError("the floating-point predictor was used on integers")
    size = layout.bits // 8
    steps = rows.reshape(len(rows), -1, layout.together)
    planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(len(rows), size, -1)
    return np.ascontiguousarray(planes.swapaxes(1, 2)).reshape(-1).view(f">f{size}").astype(f"=f{size}")
