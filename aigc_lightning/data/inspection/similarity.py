"""Which images are the same, or look the same.

Shapes: N images, H and W height and width in pixels.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aigc_lightning.data.augment import resized

_GRID = 9  # brightness is compared on 9x9 places
_THUMB = 16  # pixels of a thumbnail's side
_BLOCK = 2048  # images compared at once: 2048 x N distances have to fit in memory
#: Largest share of differing bits, and largest mean difference of thumbnails, of images that look the same. Chosen on
#: photographs that were compressed (JPEG quality 30), halved or brightened: nine of ten of them are found.
MOST_BITS, MOST_DIFFERENCE = 0.08, 0.09


@dataclass(frozen=True)
class Fingerprint:
    """What an image is compared by.

    Args:
        exact: hash of size and pixels.
        bits: (144,) whether brightness grows from one place to the next, to the right and down: the difference hash of
            N. Krawetz, 2013, in both directions.
        thumbnail: float32 (3 * 16 * 16,) of mean 0 and standard deviation 1, so that brightness and contrast do not
            count; None of an image that is all of one colour, which looks like nothing.
    """

    exact: bytes
    bits: npt.NDArray[np.bool_]
    thumbnail: npt.NDArray[np.float32] | None


def fingerprint(image: Tensor) -> Fingerprint:
    """Return what an image is compared by.

    Args:
        image: uint8 (C, H, W), C in {1, 3, 4}; transparency counts for the exact hash alone.
    """
    pixels = np.ascontiguousarray(image.numpy())
    exact = blake2b(str(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()
    color = image[:3].expand(3, -1, -1)[None]
    grey = resized(color, _GRID, _GRID)[0].float().mean(0)
    # Differences of less than a grey level are rounding, and would make random bits of flat ground.
    right, down = (grey[:, 1:] - grey[:, :-1]) > 1, (grey[1:] - grey[:-1]) > 1
    bits = torch.cat([right.flatten(), down.flatten()]).numpy()
    thumbnail = resized(color, _THUMB, _THUMB)[0].flatten().float()
    spread = thumbnail.std()
    return Fingerprint(exact, bits, ((thumbnail - thumbnail.mean()) / spread).numpy() if spread > 1 else None)


def equal_groups(prints: list[Fingerprint]) -> list[list[int]]:
    """Return the numbers of images that have the same pixels, two or more a group."""
    groups: dict[bytes, list[int]] = {}
    for number, item in enumerate(prints):
        groups.setdefault(item.exact, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(prints: list[Fingerprint]) -> list[tuple[int, int, float]]:
    """Return the pairs of images that look the same and are not equal, the most alike first.

    Args:
        prints: of N images.

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
        # Bits as signs: a product of two rows is the number of equal bits less that of different ones.
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
