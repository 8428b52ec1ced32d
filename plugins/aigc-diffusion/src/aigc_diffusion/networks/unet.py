"""The U-Net of DDPM, DDPM++ and ADM, which differ by a few switches.

Papers: Ho et al., DDPM, NeurIPS 2020, https://arxiv.org/abs/2006.11239 (appendix B); Song et al., Score-Based
Generative Modeling through SDEs, ICLR 2021, https://arxiv.org/abs/2011.13456 (appendix H: DDPM++); Dhariwal and
Nichol, Diffusion Models Beat GANs (ADM), NeurIPS 2021, https://arxiv.org/abs/2105.05233 (section 3); Karras et al.,
EDM, NeurIPS 2022, https://arxiv.org/abs/2206.00364 (appendix F.1: how EDM built the latter two)
Departs from the papers: the first layer may take patches for pixels, which is what makes the network fast on a
processor; sizes that do not suit are padded with zeros and cut again; texts are attended to.
Shapes: B batch, C channels, H and W height and width in pixels, K noise levels of a sample.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from aigc_diffusion.checks import check_choice
from aigc_diffusion.networks.attention import Attention
from aigc_diffusion.networks.conditions import NO_CONDITIONS, Conditions
from aigc_diffusion.networks.sizes import cropped, padded
from aigc_diffusion.networks.unet_blocks import STYLES, Stage, StyleName, make_norm
from aigc_diffusion.networks.unet_embedding import UNetEmbedding


class UNet(nn.Module):
    """Maps states (B, C, H, W) to predictions of this shape, or of more channels.

    Args:
        channels: C of the state.
        width: channels of the first layer, an even number.
        multipliers: of the width, one a level; each level has half of the resolution of the one before.
        blocks: residual blocks of a level on the way down; there is one more on the way up.
        attention_levels: levels with attention, 0 being the finest. The middle always has attention.
        style: "ddpm", "ddpmpp", "adm" or "light": see `unet_blocks.STYLES`.
        patch_size: side of the squares of pixels that the first layer takes for one.
        output_channels: of the prediction; 0 for C. ADM itself has 2 C, for a learned variance.
        dropout: share of the features that are left out in training.
        num_classes: classes that labels may name; 0 for none.
        text_size: of a text's embeddings; 0 for no texts.
        extra_channels: of the condition `image`; 0 for none.
        augmentation_size: numbers of augmentation labels; 0 for none.
        level_size: K.

    Raises:
        UserError: a style or an attention level that does not exist.
    """

    def __init__(
        self,
        channels: int,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention_levels: Sequence[int] = (1,),
        style: StyleName = "adm",
        *,
        patch_size: int = 1,
        output_channels: int = 0,
        dropout: float = 0.0,
        num_classes: int = 0,
        text_size: int = 0,
        extra_channels: int = 0,
        augmentation_size: int = 0,
        level_size: int = 1,
    ) -> None:
        super().__init__()
        check_choice("The style of U-Net", style, tuple(STYLES))
        _check_levels(attention_levels, len(multipliers))
        self.patch_size = patch_size
        self.size_multiple = patch_size * 2 ** (len(multipliers) - 1)
        self.embedding = UNetEmbedding(width, STYLES[style], num_classes, text_size, augmentation_size, level_size)
        pixels = patch_size**2
        self.first = nn.Conv2d((channels + extra_channels) * pixels, width, 3, padding=1)
        self.encoder, self.middle, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self._add_stages(
            [width * multiplier for multiplier in multipliers],
            blocks,
            frozenset(attention_levels),
            partial(Stage, embedding=self.embedding.size, style=STYLES[style], dropout=dropout, text_size=text_size),
        )
        self.norm = make_norm(width * multipliers[0])
        self.last = nn.Conv2d(width * multipliers[0], (output_channels or channels) * pixels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        self.to(memory_format=torch.channels_last)

    def forward(self, state: Tensor, level: Tensor, conditions: Conditions = NO_CONDITIONS) -> Tensor:
        """Return the prediction (B, C or more, H, W).

        Args:
            state: (B, C, H, W), scaled to a variance near 1.
            level: (B, K).
            conditions: those that the network was built for.
        """
        height, width = state.shape[-2:]
        images = state if conditions.image is None else torch.cat([state, conditions.image], dim=1)
        patches = pixel_unshuffle(padded(images, self.size_multiple), self.patch_size)
        embedding = self.embedding(level, conditions)
        features = self.first(patches.contiguous(memory_format=torch.channels_last))
        skipped = [features]
        for stage in self.encoder:
            features = stage(features, embedding, conditions)
            skipped.append(features)
        for stage in self.middle:
            features = stage(features, embedding, conditions)
        for stage in self.decoder:
            if stage.resample == "none":
                features = torch.cat([features, skipped.pop()], dim=1)
            features = stage(features, embedding, conditions)
        patches = self.last(silu(self.norm(features)))
        return cropped(pixel_shuffle(patches, self.patch_size), height, width)

    def attentions(self) -> dict[str, tuple[Attention, int]]:
        """Return the layers of attention by name, from input to output, each with the pixels along a token's side."""
        found, side = {}, self.patch_size
        for part in ("encoder", "middle", "decoder"):
            for number, stage in enumerate(getattr(self, part)):
                side = side * 2 if stage.resample == "down" else side // 2 if stage.resample == "up" else side
                if stage.attention is not None:
                    found[f"{part}_{number}"] = stage.attention.attention, side
        return found

    def _add_stages(
        self, widths: Sequence[int], blocks: int, attention: frozenset[int], stage: Callable[..., Stage]
    ) -> None:
        """Fill encoder, middle and decoder, whose stages take in the encoder's features in reverse order.

        Args:
            widths: channels of each level.
            blocks: residual blocks of a level of the encoder.
            attention: levels with attention.
            stage: makes a stage from its inputs, outputs, and whether it has attention or changes the resolution.
        """
        now = self.first.out_channels
        skipped = [now]
        for level, width in enumerate(widths):
            if level > 0:
                self.encoder.append(stage(now, now, resample="down"))
                skipped.append(now)
            for _ in range(blocks):
                self.encoder.append(stage(now, width, attention=level in attention))
                now = width
                skipped.append(now)
        self.middle.extend([stage(now, now, attention=True), stage(now, now)])
        for level, width in reversed(list(enumerate(widths))):
            for number in range(blocks + 1):
                attends = number == blocks or self.embedding.style.attention_in_decoder_blocks
                self.decoder.append(stage(now + skipped.pop(), width, attention=attends and level in attention))
                now = width
            if level > 0:
                self.decoder.append(stage(now, now, resample="up"))


def _check_levels(attention_levels: Sequence[int], levels: int) -> None:
    for level in attention_levels:
        if level not in range(levels):
            raise UserError(
                f"The U-Net has no level {level} that attention could be in.",
                f"Levels go from 0, the finest, to {levels - 1}.",
            )
