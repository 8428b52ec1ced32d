"""What pictures files have to give, by the formulas of the specifications.

Pictures are float (H, W, 4): red, green, blue and alpha from 0 to 1, colours not multiplied by alpha.
"""

import numpy as np

from image_files.icc_writer import SRGB, xyz_matrix

_SRGB_MATRIX = xyz_matrix(SRGB)


def picture(color: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Return a picture of grey (H, W, 1) or RGB (H, W, 3) and alpha (H, W) or None."""
    color = np.broadcast_to(color, (*color.shape[:2], 3))
    opaque = np.ones(color.shape[:2]) if alpha is None else alpha
    return np.concatenate([color, opaque[:, :, None]], axis=2).astype(np.float64)


def on_white(shown: np.ndarray) -> np.ndarray:
    """Return a picture laid on white, (H, W, 3)."""
    alpha = shown[:, :, 3:]
    return np.asarray(shown[:, :, :3] * alpha + 1 - alpha)


def scaled(samples: np.ndarray, bits: int, sample_format: int = 1) -> np.ndarray:
    """Return samples as levels from 0 to 1."""
    if sample_format == 3:
        return samples.astype(np.float64)
    return samples.astype(np.float64) / float(2 ** (bits - (sample_format == 2)) - 1)


def inks(cmyk: np.ndarray) -> np.ndarray:
    """Return CMYK (H, W, 4) as RGB, for inks that multiply."""
    return np.asarray((1 - cmyk[:, :, :3]) * (1 - cmyk[:, :, 3:]))


def ycbcr(
    y: np.ndarray, cb: np.ndarray, cr: np.ndarray, weights: tuple[float, float, float] = (0.299, 0.587, 0.114)
) -> np.ndarray:
    """Return luma from 0 to 1 and chroma from -0.5 to 0.5 as RGB, clipped."""
    red, green, blue = weights
    r, b = y + (2 - 2 * red) * cr, y + (2 - 2 * blue) * cb
    return np.stack([r, (y - red * r - blue * b) / green, b], axis=2).clip(0, 1)


def encoded(linear: np.ndarray) -> np.ndarray:
    """Return linear light as levels of sRGB (IEC 61966-2-1)."""
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def from_rgb_profile(levels: np.ndarray, primaries: tuple[tuple[float, float], ...], gamma: float) -> np.ndarray:
    """Return RGB of a display with the white D65 in sRGB, clipped."""
    return encoded(levels**gamma @ (np.linalg.inv(_SRGB_MATRIX) @ xyz_matrix(primaries)).T)


def from_lab(lab: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* (H, W, 3) with the white D50 in sRGB, by CIE 15 and Bradford's adaptation to D65."""
    fy = (lab[:, :, 0] + 16) / 116
    f = np.stack([fy + lab[:, :, 1] / 500, fy, fy - lab[:, :, 2] / 200], axis=2)
    ratio = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50, d65 = np.array([0.9642, 1, 0.8249]), _SRGB_MATRIX.sum(axis=1)
    to_d65 = np.linalg.inv(bradford) @ np.diag(bradford @ d65 / (bradford @ d50)) @ bradford
    return encoded(ratio * d50 @ (np.linalg.inv(_SRGB_MATRIX) @ to_d65).T)
