"""DiT: a transformer of patches whose blocks are told about noise and class by adaLN-Zero.

Paper: Peebles and Xie, Scalable Diffusion Models with Transformers, ICCV 2023, https://arxiv.org/abs/2212.09748
(section 3.2; sizes in table 1)
Departs from the paper: positions are computed for the size at hand, rotary ones by choice; queries and keys can be
normalised; sizes that do not suit are padded and cut again; texts are attended to; other inputs beside the state.
Shapes: B batch, C channels, H and W height and width in pixels, K noise levels of a sample, N tokens, D width, P patch
size.
"""

from typing import Literal, NamedTuple, get_args

import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pixel_shuffle, silu

from aigc_diffusion.checks import check_choice
from aigc_diffusion.networks.attention import Attention
from aigc_diffusion.networks.conditions import NO_CONDITIONS, Conditions
from aigc_diffusion.networks.embedding import fixed_positions, level_features, rotations
from aigc_diffusion.networks.sizes import cropped, padded

Positions = Literal["fixed", "rotary"]
_LEVEL_FEATURES = 256


class DiTSize(NamedTuple):
    """Layers, width and heads of a network."""

    depth: int
    width: int
    heads: int


#: The sizes of the paper.
SIZES = {"S": DiTSize(12, 384, 6), "B": DiTSize(12, 768, 12), "L": DiTSize(24, 1024, 16), "XL": DiTSize(28, 1152, 16)}


class DiT(nn.Module):
    """Maps states (B, C, H, W) to predictions of this shape, or of more channels.

    Args:
        channels: C of the state.
        patch_size: P.
        depth: number of blocks.
        width: D, a multiple of 4 and of the heads.
        heads: of the attention.
        mlp_ratio: width of the hidden layers in D.
        positions: "fixed" sines and cosines are added to the tokens; "rotary" ones turn queries and keys, D / heads
            being a multiple of 4.
        qk_norm: normalise queries and keys.
        output_channels: of the prediction; 0 for C. DiT itself has 2 C, for a learned variance.
        num_classes: classes that labels may name; 0 for none.
        text_size: of a text's embeddings; 0 for no texts.
        extra_channels: of the condition `image`; 0 for none.
        augmentation_size: numbers of augmentation labels; 0 for none.
        level_size: K.

    Raises:
        UserError: positions that are not known, or a width that cannot be divided as it must be.
    """

    def __init__(
        self,
        channels: int,
        patch_size: int = 2,
        depth: int = 12,
        width: int = 384,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        positions: Positions = "fixed",
        *,
        qk_norm: bool = False,
        output_channels: int = 0,
        num_classes: int = 0,
        text_size: int = 0,
        extra_channels: int = 0,
        augmentation_size: int = 0,
        level_size: int = 1,
    ) -> None:
        super().__init__()
        check_choice("The kind of positions", positions, get_args(Positions))
        if width % 4 or width % heads or (positions == "rotary" and width // heads % 4):
            raise UserError(
                f"A DiT of width {width} cannot have {heads} heads and {positions} positions.",
                "Choose a width that is a multiple of the heads and, with rotary positions, of 4 times the heads.",
            )
        self.patch_size, self.width, self.heads, self.positions = patch_size, width, heads, positions
        self.size_multiple = patch_size
        self.first = nn.Conv2d(channels + extra_channels, width, patch_size, patch_size)
        self.level = nn.Sequential(nn.Linear(level_size * _LEVEL_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.text = nn.Linear(text_size, width) if text_size else None
        self.augmentation = nn.Linear(augmentation_size, width, bias=False) if augmentation_size else None
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads, int(width * mlp_ratio), text_size, qk_norm) for _ in range(depth)
        )
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, patch_size**2 * (output_channels or channels))
        self._initialize()

    def forward(self, state: Tensor, level: Tensor, conditions: Conditions = NO_CONDITIONS) -> Tensor:
        """Return the prediction (B, C or more, H, W).

        Args:
            state: (B, C, H, W), scaled to a variance near 1.
            level: (B, K).
            conditions: those that the network was built for.
        """
        height, width = state.shape[-2:]
        images = state if conditions.image is None else torch.cat([state, conditions.image], dim=1)
        patches = self.first(padded(images, self.patch_size))
        rows, columns = patches.shape[-2:]
        tokens, rotation = patches.flatten(2).transpose(1, 2), None
        if self.positions == "fixed":
            tokens = tokens + fixed_positions(rows, columns, self.width, tokens.dtype, tokens.device)
        else:
            rotation = rotations(rows, columns, self.width // self.heads, tokens.dtype, tokens.device)
        embedding = silu(self._embed(level, conditions))
        for block in self.blocks:
            tokens = block(tokens, embedding, conditions, rotation)
        shift, scale = self.modulation(embedding).chunk(2, dim=1)
        outputs = self.last(_modulated(tokens, shift, scale))
        images = pixel_shuffle(outputs.transpose(1, 2).unflatten(2, (rows, columns)), self.patch_size)
        return cropped(images, height, width)

    def attentions(self) -> dict[str, tuple[Attention, int]]:
        """Return the layers of attention by name, from input to output, each with the pixels along a token's side."""
        blocks = [block for block in self.blocks if isinstance(block, DiTBlock)]
        return {f"block_{number}": (block.attention, self.patch_size) for number, block in enumerate(blocks)}

    def _embed(self, level: Tensor, conditions: Conditions) -> Tensor:
        """Return the embedding (B, D) of noise levels (B, K) and conditions."""
        embedding: Tensor = self.level(level_features(level, _LEVEL_FEATURES))
        if self.labels is not None and conditions.labels is not None:
            embedding = embedding + self.labels(conditions.labels)
        if self.text is not None and conditions.pooled_text is not None:
            embedding = embedding + self.text(conditions.pooled_text)
        if self.augmentation is not None and conditions.augmentation is not None:
            embedding = embedding + self.augmentation(conditions.augmentation)
        return embedding

    def _initialize(self) -> None:
        """Start as the paper's code does; all that blocks and the last layer add is zero at first."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, std=0.02)
        nn.init.xavier_uniform_(self.first.weight.flatten(1))
        if self.first.bias is not None:
            nn.init.zeros_(self.first.bias)
        for layer in self.level.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        for layer in self.modules():
            if isinstance(layer, DiTBlock):
                nn.init.zeros_(layer.modulation.weight)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.last.weight)


class DiTBlock(nn.Module):
    """Attention and a network of two layers, each modulated and gated by the embedding (adaLN-Zero).

    Args:
        width: D.
        heads: of the attention.
        hidden: width of the hidden layer.
        text_size: of a text's embeddings; 0 for no texts.
        qk_norm: normalise queries and keys.
    """

    def __init__(self, width: int, heads: int, hidden: int, text_size: int, qk_norm: bool) -> None:
        super().__init__()
        self.attention = Attention(width, heads, text_size, qk_norm)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(
        self, tokens: Tensor, embedding: Tensor, conditions: Conditions, rotation: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Return tokens (B, N, D) for tokens (B, N, D) and activated embeddings (B, D)."""
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.modulation(embedding).chunk(6, dim=1)
        changed = self.attention(_modulated(tokens, shift, scale), conditions.text, conditions.text_mask, rotation)
        tokens = torch.addcmul(tokens, gate[:, None], changed)
        return torch.addcmul(tokens, mlp_gate[:, None], self.mlp(_modulated(tokens, mlp_shift, mlp_scale)))


def _modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return normalised tokens (B, N, D), scaled and shifted by (B, D)."""
    return torch.addcmul(shift[:, None], layer_norm(tokens, tokens.shape[-1:], eps=1e-6), 1 + scale[:, None])
