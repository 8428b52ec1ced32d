"""A training loop of one's own, on this package's networks and losses, which are plain PyTorch.

python examples/custom_loop.py
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import Adam

from aigc_lightning.core.io.pictures import image_grid, to_uint8
from aigc_lightning.data import Digits
from aigc_lightning.losses import nonsaturating, penalties
from aigc_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator

LATENT_SIZE, R1_GAMMA, R1_EVERY = 64, 1.0, 16


def batches(data: Digits) -> Iterator[Tensor]:
    """Yield real images (B, C, H, W) in [-1, 1] without end, in a new order in each epoch."""
    loader = data.train_dataloader()
    while True:
        yield from (batch["image"] for batch in loader)


def main(steps: int = 1000) -> None:
    """Train a GAN with an R1 penalty on every 16th batch, and draw what it has learnt."""
    torch.manual_seed(0)
    data = Digits(size=32, batch_size=64)
    data.prepare_data()
    data.setup("fit")
    generator = DCGANGenerator(LATENT_SIZE, data.spec.shape, width=32, norm="batch")
    discriminator = DCGANDiscriminator(data.spec.shape, width=32, norm="spectral")
    g_optimizer = Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.99))
    d_optimizer = Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.99))

    for step, real in zip(range(steps), batches(data), strict=False):
        fake = generator(torch.randn(len(real), LATENT_SIZE))
        d_loss = nonsaturating.discriminator(discriminator(real), discriminator(fake.detach()))
        if step % R1_EVERY == 0:
            d_loss = d_loss + R1_GAMMA / 2 * R1_EVERY * penalties.r1(discriminator, real)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        g_loss = nonsaturating.generator(discriminator(fake))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        print(f"step {step}: D {d_loss.item():.3f}, G {g_loss.item():.3f}", end="\r")

    with torch.no_grad():
        images = generator.eval()(torch.randn(64, LATENT_SIZE))
    image_grid(to_uint8(images), columns=8).save("own_loop.png")


if __name__ == "__main__":
    main()
