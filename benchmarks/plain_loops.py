"""Straightforward training loops written after the papers: fp32, contiguous memory, default optimizers.

The networks are those of the built-in models, rewritten with plain layers, so that our optimizations do not affect
them. `same_networks` verifies that they give the same outputs with the same weights. Updates follow the authors' code,
if there is any: shared fakes, and frozen discriminators in CycleGAN and pix2pix.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain, pairwise
from random import Random
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss, mse_loss
from torch.optim import Adam, AdamW, Optimizer

Batch = dict[str, Tensor]
BETAS = (0.5, 0.999)


class Plain(ABC):
    """A handwritten training loop.

    Args:
        batches: returns the next batch, images in [-1, 1].
    """

    def __init__(self, batches: Callable[[], Batch]) -> None:
        self.batches = batches

    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """Return the networks, in the order of `ours`."""

    @abstractmethod
    def step(self) -> None:
        """Take a batch and update every network."""

    def optimizer(self, *networks: nn.Module) -> Optimizer:
        """Return Adam with the usual settings for GANs."""
        return Adam(chain.from_iterable(network.parameters() for network in networks), lr=2e-4, betas=BETAS)


def same_networks(plain: Plain, ours: list[nn.Module], inputs: list[tuple[Any, ...]]) -> bool:
    """Copy the weights of our networks to a plain loop, and return whether both give the same outputs.

    Args:
        plain: the loop; its weights are overwritten.
        ours: networks whose parameters come in the same order.
        inputs: inputs of each network.
    """
    for theirs, network, arguments in zip(plain.networks(), ours, inputs, strict=True):
        with torch.no_grad():
            for target, source in zip(theirs.parameters(), network.parameters(), strict=True):
                target.copy_(source)
            outputs, wanted = (_joined(each.eval()(*arguments)) for each in (theirs, network))  # no dropout
        if not torch.allclose(outputs, wanted, rtol=1e-3, atol=1e-4):
            return False
    return True


def _joined(outputs: Any) -> Tensor:
    return torch.cat(outputs, dim=1) if isinstance(outputs, tuple) else outputs


def _judged(logits: Tensor, real: bool) -> Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


# ---- DCGAN (Radford et al., 2016; updates as in pytorch/examples)


class PlainDCGAN(Plain):
    """G and D of N layers with batch norm, and one shared batch of fakes."""

    def __init__(self, batches: Callable[[], Batch], channels: int, size: int, width: int, latent_size: int) -> None:
        super().__init__(batches)
        self.latent_size = latent_size
        widths = [width * 2**level for level in range(int(math.log2(size)) - 2)]
        self.generator, self.discriminator = self._generator(channels, widths), self._discriminator(channels, widths)
        self.discriminator_optimizer = self.optimizer(self.discriminator)
        self.generator_optimizer = self.optimizer(self.generator)

    def _generator(self, channels: int, widths: list[int]) -> nn.Module:
        widths = widths[::-1]
        layers: list[nn.Module] = [nn.ConvTranspose2d(self.latent_size, widths[0], 4, bias=False)]
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(True), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(True), nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1)]
        return nn.Sequential(nn.Unflatten(1, (self.latent_size, 1, 1)), *layers, nn.Tanh())

    def _discriminator(self, channels: int, widths: list[int]) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
        return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten(0))

    def networks(self) -> list[nn.Module]:
        """Return G and D."""
        return [self.generator, self.discriminator]

    def step(self) -> None:
        """Update D, then G."""
        real = self.batches()["image"]
        fake = self.generator(torch.randn(len(real), self.latent_size))
        self.discriminator_optimizer.zero_grad()
        _judged(self.discriminator(real), True).backward()
        _judged(self.discriminator(fake.detach()), False).backward()
        self.discriminator_optimizer.step()
        self.generator_optimizer.zero_grad()
        _judged(self.discriminator(fake), True).backward()
        self.generator_optimizer.step()


# ---- networks of CycleGAN and pix2pix (Zhu et al., 2017; Isola et al., 2017)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
            layers.append(nn.ReLU(True))
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> Tensor:
        changes: Tensor = self.layers(features)
        return features + changes


def _resnet_generator(channels: int, width: int, num_blocks: int) -> nn.Module:
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU(True)]
    for before in (width, 2 * width):
        layers += [nn.Conv2d(before, 2 * before, 3, 2, 1), nn.InstanceNorm2d(2 * before), nn.ReLU(True)]
    layers += [_Block(4 * width) for _ in range(num_blocks)]
    for after in (2 * width, width):
        layers += [nn.ConvTranspose2d(2 * after, after, 3, 2, 1, 1), nn.InstanceNorm2d(after), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh())


def _patchgan(channels: int, width: int, affine: bool) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for before, after, stride in ((width, 2 * width, 2), (2 * width, 4 * width, 2), (4 * width, 8 * width, 1)):
        layers += [nn.Conv2d(before, after, 4, stride, 1, bias=not affine)]
        layers += [nn.InstanceNorm2d(after, affine=affine), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))


class _UNet(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(8)]
        self.encoder = nn.ModuleList([nn.Conv2d(channels, width, 4, 2, 1, bias=False)])
        for fine, coarse in pairwise(widths):
            norm = [nn.InstanceNorm2d(coarse, affine=True)] if len(self.encoder) < 7 else []
            layers = [nn.LeakyReLU(0.2), nn.Conv2d(fine, coarse, 4, 2, 1, bias=False), *norm]
            self.encoder.append(nn.Sequential(*layers))
        inputs = [widths[-1], *(2 * coarse for coarse in widths[-2:0:-1])]
        outputs = widths[-2::-1]
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 4, 2, 1, bias=False) for coarse, fine in zip(inputs, outputs, strict=True)
        )
        self.norms = nn.ModuleList(nn.InstanceNorm2d(fine, affine=True) for fine in outputs)
        self.last = nn.ConvTranspose2d(2 * width, channels, 4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = [images]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        outputs, skipped = features.pop(), features[1:]
        for number, (layer, norm) in enumerate(zip(self.decoder, self.norms, strict=True)):
            outputs = norm(layer(outputs.relu()))
            if number < 3:
                outputs = nn.functional.dropout(outputs, 0.5, self.training)
            outputs = torch.cat([skipped.pop(), outputs], dim=1)
        return cast(Tensor, self.last(outputs.relu()).tanh())


class Pool:
    """A pool of 50 earlier fakes, which replace every other fake."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []
        self.random = Random(0)

    def mixed(self, fake: Tensor) -> Tensor:
        """Return a fake (1, C, H, W), or an earlier one."""
        if len(self.images) < 50:
            self.images.append(fake)
            return fake
        if self.random.random() < 0.5:
            return fake
        number = self.random.randrange(50)
        earlier, self.images[number] = self.images[number], fake
        return earlier


class PlainCycleGAN(Plain):
    """Two generators with cycle and identity losses, two discriminators with pools; updates as in the authors' code."""

    def __init__(self, batches: Callable[[], Batch], num_blocks: int) -> None:
        super().__init__(batches)
        self.to_b, self.to_a = (_resnet_generator(3, 64, num_blocks) for _ in range(2))
        self.judge_a, self.judge_b = (_patchgan(3, 64, affine=False) for _ in range(2))
        self.pool_a, self.pool_b = Pool(), Pool()
        self.generator_optimizer = self.optimizer(self.to_b, self.to_a)
        self.discriminator_optimizer = self.optimizer(self.judge_a, self.judge_b)

    def networks(self) -> list[nn.Module]:
        """Return both G and both D."""
        return [self.to_b, self.to_a, self.judge_a, self.judge_b]

    def step(self) -> None:
        """Update both G, then both D."""
        batch = self.batches()
        a, b = batch["image_a"], batch["image_b"]
        fake_b, fake_a = self.to_b(a), self.to_a(b)
        back_a, back_b = self.to_a(fake_b), self.to_b(fake_a)
        for judge in (self.judge_a, self.judge_b):
            judge.requires_grad_(False)
        self.generator_optimizer.zero_grad()
        loss = 5 * (l1_loss(self.to_a(a), a) + l1_loss(self.to_b(b), b))
        loss = loss + self._least_squares(self.judge_b(fake_b), 1) + self._least_squares(self.judge_a(fake_a), 1)
        (loss + 10 * (l1_loss(back_a, a) + l1_loss(back_b, b))).backward()
        self.generator_optimizer.step()
        for judge in (self.judge_a, self.judge_b):
            judge.requires_grad_(True)
        self.discriminator_optimizer.zero_grad()
        for judge, real, fake, pool in (
            (self.judge_a, a, fake_a, self.pool_a),
            (self.judge_b, b, fake_b, self.pool_b),
        ):
            shown = pool.mixed(fake.detach())
            (0.5 * (self._least_squares(judge(real), 1) + self._least_squares(judge(shown), 0))).backward()
        self.discriminator_optimizer.step()

    def _least_squares(self, logits: Tensor, target: float) -> Tensor:
        return mse_loss(logits, torch.full_like(logits, target))


class PlainPix2Pix(Plain):
    """U-Net and PatchGAN; updates as in the authors' code."""

    def __init__(self, batches: Callable[[], Batch]) -> None:
        super().__init__(batches)
        self.generator, self.discriminator = _UNet(3, 64), _patchgan(6, 64, affine=True)
        self.generator_optimizer = self.optimizer(self.generator)
        self.discriminator_optimizer = self.optimizer(self.discriminator)

    def networks(self) -> list[nn.Module]:
        """Return G and D."""
        return [self.generator, self.discriminator]

    def step(self) -> None:
        """Update D, then G."""
        batch = self.batches()
        source, target = batch["source"], batch["target"]
        fake = self.generator(source)
        self.discriminator_optimizer.zero_grad()
        fake_loss = _judged(self.discriminator(torch.cat([source, fake.detach()], 1)), False)
        real_loss = _judged(self.discriminator(torch.cat([source, target], 1)), True)
        (0.5 * (fake_loss + real_loss)).backward()
        self.discriminator_optimizer.step()
        self.discriminator.requires_grad_(False)
        self.generator_optimizer.zero_grad()
        adversarial = _judged(self.discriminator(torch.cat([source, fake], 1)), True)
        (adversarial + 100 * l1_loss(fake, target)).backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)


# ---- one network: VAE (Kingma, Welling, 2014), autoencoder (Ronneberger et al., 2015), ResNet (He et al., 2016)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = [nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        changes: Tensor = self.layers(features)
        return features + changes


class PlainVAE(Plain):
    """Residual encoder and decoder of 32x32 images; a Gaussian with learned scales."""

    def __init__(self, batches: Callable[[], Batch], width: int, latent_size: int) -> None:
        super().__init__(batches)
        widths = [width, 2 * width, 4 * width]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1)]
        for before, after in pairwise(widths):
            layers += [_Residual(before), nn.Conv2d(before, after, 4, 2, 1)]
        layers += [_Residual(widths[-1]), nn.ReLU(), nn.Flatten(), nn.Linear(widths[-1] * 16, 2 * latent_size)]
        self.encoder = nn.Sequential(*layers)
        layers = [nn.Linear(latent_size, widths[-1] * 16), nn.Unflatten(1, (widths[-1], 4, 4)), _Residual(widths[-1])]
        for before, after in zip(widths[::-1], widths[-2::-1], strict=False):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), _Residual(after)]
        self.decoder = nn.Sequential(*layers, nn.ReLU(), nn.ConvTranspose2d(width, 3, 4, 2, 1))
        self.log_scales = nn.Parameter(torch.full((3, 1, 1), -1.4))
        self.all = nn.ParameterList([*self.encoder.parameters(), *self.decoder.parameters(), self.log_scales])
        self.adam = Adam(self.all, lr=1e-3)

    def networks(self) -> list[nn.Module]:
        """Return encoder and decoder."""
        return [self.encoder, self.decoder]

    def step(self) -> None:
        """Maximize the evidence lower bound."""
        images = self.batches()["image"]
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        errors = (images - self.decoder(latents).tanh()) * torch.exp(-self.log_scales)
        likelihood = -(0.5 * errors**2 + self.log_scales + 0.5 * math.log(2 * math.pi)).sum((1, 2, 3))
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        self.adam.zero_grad()
        ((divergence - likelihood).mean() / images[0].numel()).backward()
        self.adam.step()


class _Autoencoder(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        pairs = list(pairwise(widths))
        self.first = nn.Conv2d(channels, width, 3, 1, 1)
        self.encoder = nn.ModuleList(_Residual(size) for size in widths)
        self.halvings = nn.ModuleList(nn.Conv2d(fine, coarse, 2, 2) for fine, coarse in pairs)
        self.doublings = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(_Residual(size) for size in widths[:-1])
        self.last = nn.Conv2d(width, channels, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = [self.encoder[0](self.first(images))]
        for halving, block in zip(self.halvings, self.encoder[1:], strict=True):
            features.append(block(halving(features[-1])))
        outputs = features.pop()
        for doubling, block in zip(reversed(self.doublings), reversed(self.decoder), strict=True):
            outputs = block(doubling(outputs) + features.pop())
        return images + cast(Tensor, self.last(outputs))


class PlainAutoencoder(Plain):
    """Restoration with skip connections."""

    def __init__(self, batches: Callable[[], Batch], width: int) -> None:
        super().__init__(batches)
        self.network = _Autoencoder(3, width)
        self.adam = Adam(self.network.parameters(), lr=1e-3)

    def networks(self) -> list[nn.Module]:
        """Return the network."""
        return [self.network]

    def step(self) -> None:
        """Minimize the Charbonnier loss."""
        batch = self.batches()
        loss = ((self.network(batch["degraded"]) - batch["image"]) ** 2 + 1e-6).sqrt().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


class _Halving(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, 2, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)
        )

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = self.residual(features) + self.shortcut(features)
        return total.relu()


class PlainCNN(Plain):
    """Residual classifier of 28x28 images."""

    def __init__(self, batches: Callable[[], Batch], width: int) -> None:
        super().__init__(batches)
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
        layers += [_Halving(width * 2**level, width * 2 ** (level + 1)) for level in range(3)]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10)]
        self.network = nn.Sequential(*layers)
        self.adam = AdamW(self.network.parameters(), lr=3e-3, weight_decay=0.05)

    def networks(self) -> list[nn.Module]:
        """Return the network."""
        return [self.network]

    def step(self) -> None:
        """Minimize the cross entropy."""
        batch = self.batches()
        loss = cross_entropy(self.network(batch["image"]), batch["label"], label_smoothing=0.1)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
