"""The two networks of progressive growing, which use only the levels up to the current one.

Paper: Karras et al., Progressive Growing of GANs, ICLR 2018, https://arxiv.org/abs/1710.10196 (figure 2, table 2)
Shapes: B batch, C channels, H and W height and width of the last level, h and w of the current one, Z latent size.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from aigc_stylegan.layers import EqualizedConv2d, EqualizedLinear, activate, minibatch_deviation, pixel_norm


def double(images: Tensor) -> Tensor:
    """Return images (B, C, 2H, 2W), upsampled by repeating pixels."""
    return interpolate(images, scale_factor=2.0, mode="nearest")


def halve(images: Tensor) -> Tensor:
    """Return images (B, C, H/2, W/2), the means of 2x2 pixels."""
    return avg_pool2d(images, 2)


def mix(old: Tensor, new: Tensor, fade: float) -> Tensor:
    """Return old values faded into new ones; their dtypes may differ, as in mixed precision."""
    return (1 - fade) * old + fade * new


def reduced(images: Tensor, times: int, fade: float) -> Tensor:
    """Return real images for a level: halved several times, and blurred while the level fades in.

    Args:
        images: (B, C, H, W).
        times: number of halvings.
        fade: weight of the new level, from 0 to 1.
    """
    for _ in range(times):
        images = halve(images)
    return images if fade == 1 else mix(double(halve(images)), images, fade)


class ProgressiveGenerator(nn.Module):
    """Turns latents into images of the current level.

    Args:
        latent_size: Z.
        channels: C.
        base: height and width of the smallest level.
        widths: channels of the features of each level, from the smallest to the largest.
    """

    def __init__(self, latent_size: int, channels: int, base: tuple[int, int], widths: Sequence[int]) -> None:
        super().__init__()
        self.dense = EqualizedLinear(latent_size, widths[0] * base[0] * base[1])
        self.unflatten = nn.Unflatten(1, (widths[0], *base))
        self.first = EqualizedConv2d(widths[0], widths[0], 3)
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(EqualizedConv2d(before, after, 3) for before, after in steps)
        self.same = nn.ModuleList(EqualizedConv2d(after, after, 3) for _, after in steps)
        self.to_image = nn.ModuleList(EqualizedConv2d(width, channels, 1) for width in widths)

    def forward(self, latents: Tensor, level: int, fade: float = 1.0) -> Tensor:
        """Return images (B, C, h, w), about in [-1, 1] but not bounded.

        Args:
            latents: (B, Z).
            level: the current level, 0 being the smallest.
            fade: weight of its image; the rest is the upsampled image of the level below.
        """
        features = pixel_norm(activate(self.unflatten(self.dense(pixel_norm(latents)))))
        features = pixel_norm(activate(self.first(features)))
        below = features
        for number in range(level):
            below = double(features)
            features = pixel_norm(activate(self.up[number](below)))
            features = pixel_norm(activate(self.same[number](features)))
        images: Tensor = self.to_image[level](features)
        return images if fade == 1 or level == 0 else mix(self.to_image[level - 1](below), images, fade)


class ProgressiveDiscriminator(nn.Module):
    """Rates how real images of the current level look.

    Args:
        channels: C.
        base: height and width of the smallest level.
        widths: channels of the features of each level, from the smallest to the largest.
    """

    def __init__(self, channels: int, base: tuple[int, int], widths: Sequence[int]) -> None:
        super().__init__()
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.from_image = nn.ModuleList(EqualizedConv2d(channels, width, 1) for width in widths)
        self.same = nn.ModuleList(EqualizedConv2d(after, after, 3) for _, after in steps)
        self.down = nn.ModuleList(EqualizedConv2d(after, before, 3) for before, after in steps)
        self.last = EqualizedConv2d(widths[0] + 1, widths[0], 3)
        self.hidden = EqualizedLinear(widths[0] * base[0] * base[1], widths[0])
        self.output = EqualizedLinear(widths[0], 1)

    def forward(self, images: Tensor, level: int, fade: float = 1.0) -> Tensor:
        """Return values (B,) that grow with how real images (B, C, h, w) of a level look; `fade` as in G."""
        features = activate(self.from_image[level](images))
        for number in reversed(range(level)):
            features = activate(self.same[number](features))
            features = halve(activate(self.down[number](features)))
            if number == level - 1 and fade != 1:
                features = mix(activate(self.from_image[number](halve(images))), features, fade)
        features = activate(self.last(minibatch_deviation(features)))
        values: Tensor = self.output(activate(self.hidden(features.flatten(1))))
        return values[:, 0]
