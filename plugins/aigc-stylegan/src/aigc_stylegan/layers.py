"""Layers shared by the generator and the discriminator.

Papers: Karras et al., Progressive Growing of GANs, ICLR 2018, https://arxiv.org/abs/1710.10196 (equalised learning
rate, section 4.1; pixel norm, section 4.2; minibatch standard deviation, section 3); Karras et al., StyleGAN2, CVPR
2020, https://arxiv.org/abs/1912.04958; Karras et al., Training GANs with Limited Data, NeurIPS 2020,
https://arxiv.org/abs/2006.06676 (classes).
Shapes: B batch, C channels, H and W height and width in pixels, Z latent size, S style size.
"""

import torch
from aigc_lightning.core.engine.autocast import without_autocast
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, leaky_relu_, linear

from aigc_stylegan.convolution import convolve
from aigc_stylegan.filtering import Blur, Downsample
from aigc_stylegan.precision import limited

GROUP_SIZE = 4  # images that the minibatch standard deviation compares
_SLOPE = 0.2
_GAIN = 2**0.5  # approximately preserves the mean square of standard normal values (He et al., 2015)


def activate(values: Tensor) -> Tensor:
    """Return sqrt(2) times the leaky ReLU (slope 0.2)."""
    return leaky_relu(values, _SLOPE) * _GAIN


def activate_(features: Tensor, factors: Tensor, shifts: Tensor, bias: Tensor) -> Tensor:
    """Return `activate(features * factors + shifts + bias)` in two passes, saving one tensor for the backward pass.

    Args:
        features: (B, C, H, W).
        factors: (B, C, 1, 1).
        shifts: (B, 1, H, W).
        bias: (C,).
    """
    kind = features.dtype
    result = torch.addcmul((shifts * _GAIN).to(kind), features, (factors * _GAIN).to(kind))
    return limited(leaky_relu_(result.add_((bias * _GAIN).to(kind)[:, None, None]), _SLOPE))


def conv_weight(outputs: int, inputs: int, kernel_size: int) -> nn.Parameter:
    """Return standard normal weights (outputs, inputs, K, K) in channels-last layout.

    CPUs convolve and filter faster in that layout, and so do GPUs in half precision.
    """
    weight = torch.randn(outputs, inputs, kernel_size, kernel_size)
    return nn.Parameter(weight.contiguous(memory_format=torch.channels_last))


def pixel_norm(values: Tensor) -> Tensor:
    """Return vectors (B, Z) normalised to mean square 1."""
    return values * (values.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class EqualizedLinear(nn.Module):
    """Linear layer with equalised learning rate: its weights are N(0, 1) and scaled when used.

    Args:
        inputs: size of the input.
        outputs: size of the output.
        bias: initial value of all biases.
        lr_multiplier: factor of the learning rate; initial outputs do not depend on it.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale, self.lr_multiplier = lr_multiplier * inputs**-0.5, lr_multiplier

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, outputs) from (B, inputs), without autocast."""
        with without_autocast(values.device):
            return linear(values.to(self.weight.dtype), self.weight * self.scale, self.bias * self.lr_multiplier)


class EqualizedConv2d(nn.Module):
    """Convolution with equalised learning rate that keeps the size, or filters and halves it.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel_size: 1 or 3.
        bias: whether to add one.
        down: whether to halve height and width.
        activated: whether `activate` follows.
        gain: factor of the output.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        bias: bool = True,
        down: bool = False,
        activated: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = conv_weight(outputs, inputs, kernel_size)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        # A leaky ReLU commutes with positive factors, so all of them go into the weights.
        self.gain = gain * _GAIN if activated else gain
        self.scale = self.gain * (inputs * kernel_size**2) ** -0.5
        self.activated = activated
        self.filter: nn.Module | None = None
        self.stride, self.padding = 1, kernel_size // 2
        if down and kernel_size == 1:
            self.filter = Downsample()  # first, so that the convolution works on fewer pixels
        elif down:
            self.filter, self.stride, self.padding = Blur(padding=2), 2, 0

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, outputs, H, W), or half that size, from (B, inputs, H, W)."""
        if self.filter is not None:
            features = self.filter(features)
        result = convolve(features, self.weight, self.stride, self.padding, self.scale)
        if self.bias is not None:
            result.add_((self.bias * self.gain).to(result.dtype)[:, None, None])
        return limited(leaky_relu_(result, _SLOPE)) if self.activated else result


class MappingNetwork(nn.Module):
    """Turns latents, or classes, or both, into styles.

    Args:
        latent_size: Z; 0 if styles depend only on classes.
        style_size: S.
        num_classes: number of classes; 0 for none.
        num_layers: 1 or more.
        lr_multiplier: factor of the learning rate of all layers (StyleGAN, appendix C).
    """

    def __init__(
        self, latent_size: int, style_size: int, num_classes: int = 0, num_layers: int = 8, lr_multiplier: float = 0.01
    ) -> None:
        super().__init__()
        embedding_size = (latent_size or style_size) if num_classes else 0
        self.embedding = nn.Embedding(num_classes, embedding_size) if num_classes else None
        sizes = [latent_size + embedding_size, *[style_size] * num_layers]
        self.layers = nn.ModuleList(
            EqualizedLinear(before, after, lr_multiplier=lr_multiplier)
            for before, after in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, latents: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Return styles (B, S) from latents (B, Z) and labels, int64 (B,), whichever the network uses."""
        parts = [] if latents is None else [pixel_norm(latents)]
        if self.embedding is not None:
            parts.append(pixel_norm(self.embedding(labels)))
        styles = torch.cat(parts, dim=1)
        for layer in self.layers:
            styles = activate(layer(styles))
        return styles


def minibatch_deviation(features: Tensor, group_size: int = GROUP_SIZE) -> Tensor:
    """Return features (B, C + 1, H, W): the last channel measures how much the images of a group differ.

    Groups are consecutive images, so that they stay the same when a batch is split into multiples of the group size.

    Args:
        features: (B, C, H, W).
        group_size: images per group; the last group may be smaller.
    """
    full = len(features) - len(features) % group_size
    maps = []
    for part, size in ((features[:full], group_size), (features[full:], len(features) - full)):
        if len(part):
            groups = part.reshape(-1, size, *part.shape[1:]).float()
            variances = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
            statistic = (variances + 1e-8).sqrt().mean(dim=(1, 2, 3))
            maps.append(statistic.to(features.dtype).repeat_interleave(size))
    deviations = torch.cat(maps)[:, None, None, None].expand(-1, 1, *features.shape[2:])
    return torch.cat([features, deviations], dim=1)
