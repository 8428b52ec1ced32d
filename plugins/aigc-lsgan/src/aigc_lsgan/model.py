"""Least-squares GAN.

Paper: Mao et al., Least Squares Generative Adversarial Networks, ICCV 2017, https://arxiv.org/abs/1611.04076
Departures from the paper: small networks with group norm, and an R1 penalty, so that it trains in minutes.
Shapes: B batch, C channels, H and W height and width in pixels, Z latent size. Images lie in [-1, 1].
"""

from collections.abc import Sequence

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.batch import ImageBatch
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.losses import least_squares
from aigc_lightning.losses.penalties import r1
from torch import Tensor
from torch.optim import Adam, Optimizer

from aigc_lsgan.networks import make_discriminator, make_generator


class LSGAN(AdversarialModel):
    """Unconditional least-squares GAN for images whose height and width are multiples of 4.

    Args:
        spec: format of the images; declared by the data.
        latent_size: Z.
        width: channels of the layer nearest to the image, in both networks.
        lr: Adam learning rate of both networks.
        r1_weight: gamma of the R1 penalty on the discriminator; 0 for none.

    Raises:
        UserError: the height or width is not a multiple of 4.
    """

    aigc_api = 1  # the plugin API version that this class was written for
    players = ("discriminator", "generator")  # in the order of their optimizers
    looks_at_real = ("r1_weight",)

    def __init__(
        self, spec: ImageSpec, latent_size: int = 64, width: int = 32, lr: float = 5e-4, r1_weight: float = 1.0
    ) -> None:
        super().__init__(spec)
        if spec.height % 4 or spec.width % 4:
            raise UserError(
                f"LSGAN halves images twice, but the data is {spec}.",
                "Choose data whose height and width are multiples of 4.",
            )
        self.latent_size, self.lr, self.r1_weight = latent_size, lr, r1_weight
        self.generator = make_generator(latent_size, spec.shape, width)
        self.discriminator = make_discriminator(spec.shape, width)

    def sample(self, seeds: Sequence[int]) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged generator if one is kept."""
        with self.inference():
            latents = seeded_normal(seeds, self.latent_size).to(self.device)
            images: Tensor = self.averaged("generator")(latents)
        return images

    def real_loss(self, real: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the part of D's loss that depends on real images (B, C, H, W), without the penalty."""
        return least_squares.discriminator_on_real(self.discriminator(real))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of D on real and fake images (B, C, H, W); no gradient reaches G."""
        loss = self.loss_on_real(real) + least_squares.discriminator_on_fake(self.discriminator(fake.detach()))
        if self.r1_weight:
            loss = loss + 0.5 * self.r1_weight * r1(self.discriminator, real)
        return loss

    def generator_loss(self, fake: Tensor) -> Tensor:
        """Return the loss of G on its images (B, C, H, W)."""
        return least_squares.generator(self.discriminator(fake))

    def adversarial_step(self, batch: ImageBatch) -> None:
        """Update D, then G, on one shared batch of fakes."""
        real = batch["image"]
        fake = self.generator(self.noise(len(real), self.latent_size))
        self.update("discriminator", lambda: self.discriminator_loss(real, fake))
        self.update("generator", lambda: self.generator_loss(fake))

    def configure_optimizers(self) -> list[Optimizer]:
        """Return one Adam optimizer per player."""
        return [Adam(getattr(self, name).parameters(), lr=self.lr, betas=(0.5, 0.99)) for name in self.players]
