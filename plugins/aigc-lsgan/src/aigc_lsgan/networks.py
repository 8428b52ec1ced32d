"""The generator and the discriminator, as plain PyTorch modules.

Shapes: B batch, C channels, H and W height and width in pixels, Z latent size.
"""

from torch import nn


def make_generator(latent_size: int, shape: tuple[int, int, int], width: int) -> nn.Module:
    """Return a network from latents (B, Z) to images (B, C, H, W) in [-1, 1].

    Args:
        latent_size: Z.
        shape: (C, H, W), the last two multiples of 4.
        width: channels of the last hidden layer.
    """
    channels, height, image_width = shape
    return nn.Sequential(
        nn.Linear(latent_size, 4 * width * (height // 4) * (image_width // 4)),
        nn.Unflatten(1, (4 * width, height // 4, image_width // 4)),
        *_upsampling(4 * width, 2 * width),
        *_upsampling(2 * width, width),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, channels, 3, padding=1),
        nn.Tanh(),
    )


def make_discriminator(shape: tuple[int, int, int], width: int) -> nn.Module:
    """Return a network from images (B, C, H, W) to logits (B, 1): above 0 for images that look real.

    Args:
        shape: (C, H, W), the last two multiples of 4.
        width: channels of the first layer.
    """
    channels, height, image_width = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(4 * width * (height // 4) * (image_width // 4), 1),
    )


def _upsampling(before: int, after: int) -> list[nn.Module]:
    return [nn.GroupNorm(1, before), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
