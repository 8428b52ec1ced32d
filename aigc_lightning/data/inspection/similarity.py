"""Detection of identical and similar images.

Shapes: N images, H and W height and width in pixels.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aigc_lightning.data.augment import resized

_GRID = 9  # brightness is compared on a 9x9 grid
_THUMB = 16  # side of a thumbnail in pixels
_BLOCK = 2048  # number of images compared at once: 2048 x N distances have to fit into memory
#: Maximum fraction of differing bits and maximum mean difference of thumbnails for similar images. Chosen on
#: photographs that were compressed (JPEG quality 30), halved or brightened: nine of ten of them are found.
MOST_BITS, MOST_DIFFERENCE = 0.08, 0.09


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of an image.

    Args:
        exact: hash of size and pixels.
        bits: (144,) whether brightness increases from one grid point to the next, to the right and down: the difference
            hash of N. Krawetz, 2013, in both directions.
        thumbnail: float32 (3 * 16 * 16,) with mean 0 and standard deviation 1, so that brightness and contrast do not
            matter; None for a uniform image, which is similar to none.
    """

    exact: bytes
    bits: npt.NDArray[np.bool_]
    thumbnail: npt.NDArray[np.float32] | None


def fingerprint(image: Tensor) -> Fingerprint:
    """Return the fingerprint of an image.

    Args:
        image: uint8 (C, H, W), C in {1, 3, 4}; transparency affects only the exact hash.
    """
    pixels = np.ascontiguousarray(image.numpy())
    exact = blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
    color = image[:3].expand(3, -1, -1)[None]
    grey = resized(color, _GRID, _GRID)[0].float().mean(0)
    # Differences of less than a grey level are rounding errors, which would produce random bits in flat areas.
    right, down = (grey[:, 1:] - grey[:, :-1]) > 1, (grey[1:] - grey[:-1]) > 1
    bits = torch.cat([right.flatten(), down.flatten()]).numpy()
    thumbnail = resized(color, _THUMB, _THUMB)[0].flatten().float()
    spread = thumbnail.std()
    return Fingerprint(exact, bits, ((thumbnail - thumbnail.mean()) / spread).numpy() if spread > 1 else None)


def equal_groups(prints: list[Fingerprint]) -> list[list[int]]:
    """Return groups of two or more images with the same pixels, by number."""
    groups: dict[bytes, list[int]] = {}
    for number, item in enumerate(prints):
        groups.setdefault(item.exact, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(prints: list[Fingerprint]) -> list[tuple[int, int, float]]:
    """Return the pairs of similar but not equal images, the most similar first.

    Args:
        prints: fingerprints of N images.

    Returns:
        (first number, second number, mean difference of their thumbnails in standard deviations).
    """
    numbers = [number for number, item in enumerate(prints) if item.thumbnail is not None]
    if not numbers:
        return []
    signs = torch.from_numpy(np.stack([prints[number].bits for number in numbers])).float() * 2 - 1
    thumbnails = torch.from_numpy(np.stack([item.thumbnail for item in prints if item.thumbnail is not None]))
    found = []
    for start in range(0, len(numbers), _BLOCK):
        # Bits as signs: the product of two rows is the number of equal bits minus that of different ones.
        agreement = signs[start : start + _BLOCK] @ signs.T / signs.shape[1]
        near = (agreement >= 1 - 2 * MOST_BITS).nonzero()
        near[:, 0] += start
        near = near[near[:, 0] < near[:, 1]]
        for part in torch.split(near, _BLOCK):
            difference = (thumbnails[part[:, 0]] - thumbnails[part[:, 1]]).abs().mean(1)
            keep = difference <= MOST_DIFFERENCE
            found += list(zip(*part[keep].T.tolist(), difference[keep].tolist(), strict=True))
    pairs = [(numbers[first], numbers[second], difference) for first, second, difference in found]
    unequal = [pair for pair in pairs if prints[pair[0]].exact != prints[pair[1]].exact]
    return sorted(unequal, key=lambda item: (item[2], item[0], item[1]))
