"""A model of your own in one file, without a package.

aigc fit --model examples/my_gan.py:MyGAN --data digits --trainer.max_steps 2000 --run my_run
aigc sample my_run --seeds 0-15 --grid --model-file examples/my_gan.py:MyGAN
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from aigc_lightning import AdversarialModel, ImageSpec
from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.losses import hinge


class MyGAN(AdversarialModel):
    """A small GAN of fully connected layers.

    Args:
        spec: format of the images; declared by the data.
        latent_size: numbers that an image is made from.
        width: units of the hidden layers.
    """

    players = ("discriminator", "generator")  # in the order of their optimizers

    def __init__(self, spec: ImageSpec, latent_size: int = 32, width: int = 256) -> None:
        super().__init__(spec)
        self.latent_size, pixels = latent_size, spec.channels * spec.height * spec.width
        to_image = (nn.Linear(width, pixels), nn.Tanh(), nn.Unflatten(1, spec.shape))
        self.generator = nn.Sequential(
            nn.Linear(latent_size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), *to_image
        )
        self.discriminator = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1]."""
        with self.inference():
            images: Tensor = self.averaged("generator")(seeded_normal(seeds, self.latent_size).to(self.device))
        return images

    def adversarial_step(self, batch: ImageBatch) -> None:
        """Update the discriminator, then the generator, on one shared batch of fakes."""
        real = batch["image"]
        fake = self.generator(self.noise(len(real), self.latent_size))
        judge = self.discriminator
        self.update("discriminator", lambda: hinge.discriminator(judge(real), judge(fake.detach())))
        self.update("generator", lambda: hinge.generator(judge(fake)))

    def configure_optimizers(self) -> list[Optimizer]:
        """Return Adam for each player, in the order of `players`."""
        return [Adam(getattr(self, name).parameters(), lr=5e-4, betas=(0.0, 0.99)) for name in self.players]
