"""ICC profiles for tests: RGB by primaries and gamma, grey by gamma, CMYK by a table of its 16 corners.

Written after ICC.1:2001-04 (version 2).
"""

import struct

import numpy as np

#: x and y of red, green and blue.
SRGB = ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06))
DISPLAY_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
D65 = (0.3127, 0.329)
_D50_XYZ = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def rgb_profile(primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """Return the profile of a display with the white D65."""
    matrix = _adapted(xyz_matrix(primaries))
    tags = {f"{name}XYZ".encode(): _xyz(matrix[:, place]) for place, name in enumerate("rgb")}
    tags |= {f"{name}TRC".encode(): _curve(gamma) for name in "rgb"}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**tags, b"wtpt": _xyz(_D50_XYZ)})


def grey_profile(gamma: float) -> bytes:
    """Return the profile of a grey display."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma), b"wtpt": _xyz(_D50_XYZ)})


def cmyk_profile(corners: np.ndarray) -> bytes:
    """Return the profile of a printer.

    Args:
        corners: L*, a* and b* (16, 3) of all inks off and on, black changing fastest.
    """
    encoded = np.round(corners * [2.55, 1, 1] + [0, 128, 128]).clip(0, 255).astype(np.uint8)
    identity = bytes(range(256))
    table = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2)
    table += struct.pack(">9i", *(round(65536 * value) for value in np.eye(3).reshape(-1)))
    table += identity * 4 + encoded.tobytes() + identity * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"wtpt": _xyz(_D50_XYZ)})


def xyz_matrix(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return what turns linear RGB into XYZ, for the white D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    x, y = D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


def _adapted(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix to XYZ for the white D50, by Bradford's method."""
    white = matrix.sum(axis=1)
    scale = np.diag(_BRADFORD @ _D50_XYZ / (_BRADFORD @ white))
    return np.asarray(np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ matrix)


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"made in a test\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {**tags, b"desc": text + bytes(-len(text) % 4), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    place = 128 + 4 + 12 * len(tags)
    entries, data = b"", b""
    for tag, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        entries += struct.pack(">4sII", tag, place + len(data), len(padded))
        data += padded
    head = struct.pack(">I4sI4s4s4s", place + len(data), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *(round(65536 * value) for value in _D50_XYZ))
    return head + bytes(128 - len(head)) + struct.pack(">I", len(tags)) + entries + data
