"""Where the attention layers of a model look: at which places of an image, and at which words of a prompt.

Paper: Tang et al., What the DAAM, ACL 2023, https://arxiv.org/abs/2210.04885 (equations 4 and 5: a word's map is the
sum of the attention to its tokens over heads and layers, enlarged to one size).
Departures from the paper: means instead of sums, so that maps are shares of all attention; the attention to a given
image, and of diffusion models at one noise level, instead of the sum over a generation.
Shapes: N images, C channels, H and W height and width in pixels, R and S rows and columns of places.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from aigc_lightning.core.attention import AttentionModel, TextAttentionModel, attention_grid
from aigc_lightning.core.io.pictures import image_grid, to_uint8
from aigc_lightning.inference.explaining.page import LabelledMap, Part, heat

_DIGITS = 6  # of numbers in the JSON file


def attended(
    model: AttentionModel, images: Sequence[Tensor], names: Sequence[str], asked: Mapping[str, Any] | None = None
) -> Part:
    """Show the attention that each place of images receives.

    Args:
        model: whose attention is shown.
        images: (C, H, W) in [-1, 1], of the model's size.
        names: of the images.
        asked: conditions of one image, and options of the model.
    """
    pictures, rows = [], []
    for image, name in zip(images, names, strict=True):
        pixels = to_uint8(image)
        pictures.append(pixels[:3].expand(3, -1, -1))
        for block, weights in model.attention_maps(image[None], **(asked or {})).items():
            grid = attention_grid(model, block)
            received = weights[0].float().cpu().mean(dim=(0, 1))[-math.prod(grid) :]
            spread = -(weights[0] * weights[0].clamp(min=1e-12).log()).sum(-1).mean()
            pictures.append(heat(_over(model, received.view(grid), image), pixels))
            rows.append(
                {
                    "picture": name,
                    "block": block,
                    "heads": weights.shape[1],
                    "entropy_in_nats": float(spread),
                    "share_of_the_image": float(received.sum()),
                }
            )
    caption = (
        "Left: the picture. Then, by block, the mean attention that each place receives, over queries and heads. The "
        "rest of the attention goes to what stands for the prompt, the class, or coarser images."
    )
    return Part("Where attention looks", caption, image_grid(torch.stack(pictures), 1 + len(rows) // len(images)), rows)


def attended_words(
    model: TextAttentionModel,
    images: Sequence[Tensor],
    names: Sequence[str],
    prompt: str,
    asked: Mapping[str, Any] | None = None,
) -> Part:
    """Show how much attention each place of images pays to each word of a prompt.

    Args:
        model: that reads prompts.
        images: (C, H, W) in [-1, 1], of the model's size.
        names: of the images.
        prompt: with a word at least.
        asked: other conditions of one image, and options of the model.
    """
    rows, maps = [], []
    for image, name in zip(images, names, strict=True):
        pixels = to_uint8(image)
        maps.append(LabelledMap(name, name, [], pixels[:3].expand(3, -1, -1)))
        weights = model.attention_maps(image[None], **{"prompts": [prompt], **(asked or {})})
        for word, keys in model.word_keys(prompt):
            found = word_map(model, weights, keys)
            values = [[round(value, _DIGITS) for value in row] for row in found.tolist()]
            maps.append(LabelledMap(name, word, values, heat(_over(model, found, image), pixels)))
            mean = float(found.mean())
            rows.append(
                {
                    "picture": name,
                    "word": word,
                    "bytes": len(keys),
                    "share_of_attention": mean,
                    "largest_over_mean": float(found.max()) / max(mean, 1e-12),
                }
            )
    caption = (
        "The picture, then each word: how much attention the places pay to it, summed over its bytes, mean over heads "
        "and blocks. Each map has its own scale: the table says how large the share of all attention is, and how far "
        "the map is from a constant one, of which the largest value is 1 times the mean."
    )
    return Part(f"Which places look at which word of: {prompt}", caption, rows=rows, maps=maps)


def word_map(model: AttentionModel, weights: Mapping[str, Tensor], keys: range) -> Tensor:
    """Return the attention that each place of an image pays to a word, float32 (R, S) of the finest block.

    Args:
        model: of which the attention is.
        weights: what its `attention_maps` returned for one image.
        keys: of the word.
    """
    grids = {block: attention_grid(model, block) for block in weights}
    finest, found = max(grids.values(), key=math.prod), []
    for block, part in weights.items():
        looked = part[0, :, -math.prod(grids[block]) :, keys.start : keys.stop].float().cpu().sum(-1).mean(0)
        found.append(functional.interpolate(looked.view(1, 1, *grids[block]), finest, mode="nearest")[0, 0])
    return torch.stack(found).mean(0)


def _over(model: AttentionModel, places: Tensor, image: Tensor) -> Tensor:
    """Return a map of places (R, S) as large as an image (C, H, W): (H, W)."""
    height, width = image.shape[1:]
    extent = getattr(model, "attention_extent", (height, width))
    return functional.interpolate(places[None, None], extent, mode="nearest")[0, 0, :height, :width]
