"""What the U-Net is made of: residual blocks, changes of resolution, and attention.

Shapes: B batch, I channels in, O channels out, H and W height and width, E size of the embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, silu

from aigc_diffusion.networks.attention import Attention
from aigc_diffusion.networks.conditions import Conditions

StyleName = Literal["ddpm", "ddpmpp", "adm", "light"]
_MOST_GROUPS = 32
_LEAST_CHANNELS = 4  # of a group


@dataclass(frozen=True)
class Style:
    """What the papers' networks differ in.

    Args:
        residual_resampling: resolutions change inside residual blocks, by averages and repetition, instead of by
            convolutions.
        project_resampled: such blocks have a 1x1 convolution beside them.
        scale_and_shift: the embedding scales and shifts normalised features, instead of being added to them.
        sum_scale: factor of sums of features and what is added to them.
        attention_in_decoder_blocks: after each block of a level on the way up, instead of after the last.
        head_channels: channels of an attention head; 0 for one head.
        labels_before_embedding: labels are added to the features of the noise level, instead of to their embedding.
    """

    residual_resampling: bool = False
    project_resampled: bool = False
    scale_and_shift: bool = False
    sum_scale: float = 1.0
    attention_in_decoder_blocks: bool = False
    head_channels: int = 0
    labels_before_embedding: bool = False


#: The first three are the papers'. "light" has what of theirs is worth its time on a processor: ADM's scale and shift,
#: DDPM's convolutions between resolutions, and little attention.
STYLES: dict[StyleName, Style] = {
    "ddpm": Style(attention_in_decoder_blocks=True),
    "ddpmpp": Style(residual_resampling=True, project_resampled=True, sum_scale=0.5**0.5, labels_before_embedding=True),
    "adm": Style(residual_resampling=True, scale_and_shift=True, attention_in_decoder_blocks=True, head_channels=64),
    "light": Style(scale_and_shift=True, head_channels=32),
}


def make_norm(channels: int) -> nn.GroupNorm:
    """Return a norm of up to 32 groups, of 4 channels or more each."""
    groups = min(_MOST_GROUPS, max(channels // _LEAST_CHANNELS, 1))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


def resampled(features: Tensor, resample: str) -> Tensor:
    """Return features (B, C, H, W) of half ("down"), double ("up") or the same size ("none")."""
    if resample == "down":
        return avg_pool2d(features, 2)
    return interpolate(features, scale_factor=2.0, mode="nearest") if resample == "up" else features


def _scaled(features: Tensor, scale: float) -> Tensor:
    return features if scale == 1 else features * scale


class ResidualBlock(nn.Module):
    """Two convolutions beside a connection, told about the noise level in between.

    Args:
        inputs: I.
        outputs: O.
        embedding: E.
        style: of the network.
        resample: "none", "down" or "up".
        dropout: share of the features that are left out in training.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, style: Style, resample: str, dropout: float) -> None:
        super().__init__()
        self.resample, self.style = resample, style
        self.first_norm = make_norm(inputs)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embedding = nn.Linear(embedding, 2 * outputs if style.scale_and_shift else outputs)
        self.second_norm = make_norm(outputs)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        project = inputs != outputs or (resample != "none" and style.project_resampled)
        self.project = nn.Conv2d(inputs, outputs, 1) if project else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Return features (B, O, H', W') for features (B, I, H, W) and embeddings (B, E)."""
        hidden = self.first(resampled(silu(self.first_norm(features)), self.resample))
        change = self.embedding(embedding)[:, :, None, None]
        if self.style.scale_and_shift:
            scale, shift = change.chunk(2, dim=1)
            hidden = silu(torch.addcmul(shift, self.second_norm(hidden), scale + 1))
        else:
            hidden = silu(self.second_norm(hidden + change))
        hidden = self.second(self.dropout(hidden))
        return _scaled(hidden + self.project(resampled(features, self.resample)), self.style.sum_scale)


class ConvResample(nn.Module):
    """Half or double the resolution by a convolution, as in DDPM.

    Args:
        channels: C.
        resample: "down" or "up".
    """

    def __init__(self, channels: int, resample: str) -> None:
        super().__init__()
        self.resample = resample
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2 if resample == "down" else 1, padding=1)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Return features (B, C, H', W') for features (B, C, H, W); embeddings play no part."""
        result: Tensor = self.convolution(resampled(features, "up") if self.resample == "up" else features)
        return result


class ImageAttention(nn.Module):
    """Attention between the pixels of feature maps.

    Args:
        channels: C.
        style: of the network.
        text_size: of a text's embeddings; 0 for no texts.
    """

    def __init__(self, channels: int, style: Style, text_size: int) -> None:
        super().__init__()
        self.sum_scale = style.sum_scale
        self.norm = make_norm(channels)
        heads = max(channels // style.head_channels, 1) if style.head_channels else 1
        while channels % heads:
            heads -= 1
        self.attention = Attention(channels, heads, text_size)
        nn.init.zeros_(self.attention.last.weight)

    def forward(self, features: Tensor, conditions: Conditions) -> Tensor:
        """Return feature maps of the same shape (B, C, H, W)."""
        tokens = self.norm(features).flatten(2).transpose(1, 2)
        change = self.attention(tokens, conditions.text, conditions.text_mask)
        return _scaled(features + change.transpose(1, 2).reshape(features.shape), self.sum_scale)


class Stage(nn.Module):
    """A residual block or change of resolution, and attention after it where there is any.

    Args:
        inputs: I.
        outputs: O.
        embedding: E.
        style: of the network.
        dropout: share of the features that are left out in training.
        text_size: of a text's embeddings; 0 for no texts.
        resample: "none", "down" or "up".
        attention: whether there is attention.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        embedding: int,
        style: Style,
        dropout: float,
        text_size: int,
        resample: str = "none",
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.resample = resample
        if resample == "none" or style.residual_resampling:
            self.block: nn.Module = ResidualBlock(inputs, outputs, embedding, style, resample, dropout)
        else:
            self.block = ConvResample(outputs, resample)
        self.attention = ImageAttention(outputs, style, text_size) if attention else None

    def forward(self, features: Tensor, embedding: Tensor, conditions: Conditions) -> Tensor:
        """Return features (B, O, H', W') for features (B, I, H, W) and embeddings (B, E)."""
        result: Tensor = self.block(features, embedding)
        return result if self.attention is None else self.attention(result, conditions)
