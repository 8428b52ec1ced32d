"""The cases of the training benchmarks: built-in models with the layer shapes of their reference implementations.

The layer shapes are those of the reference implementations: DCGAN of pytorch/examples (64x64, batch 64, width 64, 100
latents), CycleGAN (9 blocks, 128x128, batch 1) and pix2pix (U-Net, 256x256, batch 1) of their authors, a residual VAE
for 32x32 with batch 64. `fashion` is the preset `dcgan_fashion_mnist` and `fashion64` a DCGAN of width 64 on its data;
both are compared with a plain loop of width 64.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from plain_loops import (
    Batch,
    Plain,
    PlainAutoencoder,
    PlainCNN,
    PlainCycleGAN,
    PlainDCGAN,
    PlainPix2Pix,
    PlainVAE,
)
from torch import Tensor, nn

from aigc_lightning.core.batch import IMAGE_KEYS
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule, Visits
from aigc_lightning.data.sets.torchvision_sets import FashionMNIST
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.cyclegan import CycleGAN
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.models.pix2pix import Pix2Pix
from aigc_lightning.models.vae import VAE

PRESET = Path(__file__).parent.parent / "configs" / "dcgan_fashion_mnist.yaml"


class Noise(ImageDataModule):
    """Random images of a spec, in memory."""

    def __init__(self, spec: ImageSpec, batch_size: int) -> None:
        super().__init__(batch_size)
        self._spec = spec
        generator = torch.Generator().manual_seed(0)
        size = (max(64, 2 * batch_size), *spec.shape)
        self.images = {key: torch.randint(256, size, generator=generator).byte() for key in IMAGE_KEYS[spec.task]}
        self.classes = torch.randint(10, size[:1], generator=generator)

    @property
    def spec(self) -> ImageSpec:
        """The given spec."""
        return self._spec

    def train_source(self) -> "Noise":
        """All images."""
        return self

    val_source = train_source

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.classes)

    def fields(self, visits: Visits) -> dict[str, Any]:
        """Return the images of a batch."""
        return {key: images[torch.from_numpy(visits.indices)] for key, images in self.images.items()}

    def labels(self, indices: Any) -> Tensor | None:
        """Return their classes, if the spec has any."""
        return self.classes[torch.as_tensor(indices)] if self._spec.class_names else None


class Case(NamedTuple):
    """One comparison.

    Args:
        model: creates the model for a spec.
        plain: creates the plain loop from a function that returns batches.
        networks: returns the model's networks in the order of the plain loop's; None if the two differ by intention.
        inputs: inputs of those networks.
        spec: spec of the images; None for Fashion-MNIST.
        batch_size: number of images per step.
        steps: number of steps per block.
    """

    model: Callable[[ImageSpec], ImageModel]
    plain: Callable[[Callable[[], Batch]], Plain]
    networks: Callable[[Any], list[nn.Module]] | None
    inputs: list[tuple[Any, ...]]
    spec: ImageSpec | None
    batch_size: int
    steps: int = 1


def preset_model(spec: ImageSpec) -> DCGAN:
    """Return the model of the preset, with its settings."""
    config = yaml.safe_load(PRESET.read_text())
    model = DCGAN(spec, **config["model"]["init_args"])
    model.ema_settings = Ema(**config["ema"])
    return model


def images(channels: int, size: int, count: int = 2) -> Tensor:
    """Return noise instead of images."""
    return torch.rand(count, channels, size, size) * 2 - 1


DIGITS = tuple(map(str, range(10)))
CASES: dict[str, Case] = {
    "dcgan": Case(
        DCGAN,
        lambda batches: PlainDCGAN(batches, 3, 64, 64, 100),
        lambda model: [model.generator, model.discriminator],
        [(torch.randn(4, 100),), (images(3, 64),)],
        ImageSpec(3, 64, 64),
        64,
    ),
    "cyclegan": Case(
        lambda spec: CycleGAN(spec, num_blocks=9),
        lambda batches: PlainCycleGAN(batches, 9),
        lambda model: [*model.generator_pair.values(), *model.discriminator_pair.values()],
        [(images(3, 128, 1),)] * 4,
        ImageSpec(3, 128, 128, (), "unpaired"),
        1,
    ),
    "pix2pix": Case(
        Pix2Pix,
        PlainPix2Pix,
        lambda model: [model.generator, model.discriminator],
        [(images(3, 256, 1),), (images(6, 256, 1),)],
        ImageSpec(3, 256, 256, (), "paired"),
        1,
    ),
    "vae": Case(
        VAE,
        lambda batches: PlainVAE(batches, 32, 32),
        lambda model: [model.encoder, model.decoder[0]],
        [(images(3, 32),), (torch.randn(2, 32),)],
        ImageSpec(3, 32, 32),
        64,
        3,
    ),
    "autoencoder": Case(
        Autoencoder,
        lambda batches: PlainAutoencoder(batches, 32),
        lambda model: [model.network],
        [(images(3, 64),)],
        ImageSpec(3, 64, 64, (), "restoration"),
        8,
        3,
    ),
    "cnn": Case(
        CNN,
        lambda batches: PlainCNN(batches, 16),
        lambda model: [nn.Sequential(model.backbone, model.head)],
        [(images(1, 28),)],
        ImageSpec(1, 28, 28, DIGITS),
        128,
        5,
    ),
    "fashion": Case(preset_model, lambda batches: PlainDCGAN(batches, 1, 32, 64, 100), None, [], None, 64, 2),
    "fashion64": Case(
        DCGAN,
        lambda batches: PlainDCGAN(batches, 1, 32, 64, 100),
        lambda model: [model.generator, model.discriminator],
        [(torch.randn(4, 100),), (images(1, 32),)],
        None,
        64,
        2,
    ),
}


def data_of(case: Case, root: str | None) -> ImageDataModule:
    """Return the data of a case."""
    if case.spec is not None:
        return Noise(case.spec, case.batch_size)
    if root is None:
        sys.exit("fashion and fashion64 need --data ROOT, the folder that has FashionMNIST.")
    return FashionMNIST(root, batch_size=case.batch_size)


def batches_of(data: ImageDataModule) -> Callable[[], Batch]:
    """Return a function that draws a batch for the plain loop."""
    samples = data.samples(data.train_source())

    def draw() -> Batch:
        return samples.__getitems__(torch.randint(len(samples), (data.batch_size,)).tolist())

    return draw
