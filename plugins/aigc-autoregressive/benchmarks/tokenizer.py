"""How good a tokenizer is: its reconstructions of held-out images, and the use of its codebook.

    python benchmarks/tokenizer.py RUN JUDGE [--num 5000] [--codes codes.png]

The Frechet distance is between the images and their reconstructions, in the features of a classifier. The picture shows
what each code of a tokenizer with one token map stands for, from the most frequent to the rarest: the mean of the
pixels of its token and of the tokens around it.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.checkpoint import load_with_record
from aigc_lightning.core.io.pictures import image_grid, save_png, to_uint8
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.evaluation.image_sets import DataImages
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.moments import Moments
from aigc_lightning.metrics.pairs import psnr
from torch import Tensor
from torch.nn.functional import pad, unfold

from aigc_autoregressive.tokenizers.usage import counts, perplexity, usage

_AT_ONCE = 100


def meanings(images: Tensor, tokens: Tensor, num_codes: int, factor: int) -> Tensor:
    """Return the mean surroundings of each code inside the images, (K, C, 3f, 3f), f pixels a token; -1 without any."""
    counted = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)
    patches = unfold(pad(counted, (factor,) * 4), 3 * factor, stride=factor).transpose(1, 2).flatten(0, 1)
    sums = torch.zeros(num_codes, patches.shape[1]).index_add(0, tokens.flatten(), patches)
    colours, found = sums.view(num_codes, -1, 3 * factor, 3 * factor).tensor_split([-1], dim=1)
    return torch.where(found > 0, colours / found.clamp_min(1), -1.0)


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("judge")
    parser.add_argument("--num", type=int, default=5000)
    parser.add_argument("--codes", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    loaded, record = load_with_record(find_checkpoint(options.run))
    model: Any = loaded.eval()
    judge = find_extractor(options.judge)
    held_out = DataImages(build_data(record["data"]["class_path"], record["data"]["config"]), "val")
    images = held_out.read(range(min(options.num, len(held_out))))[0].float() / 127.5 - 1
    tokens = torch.cat([model.tokens(part) for part in images.split(_AT_ONCE)])
    made = torch.cat([model.from_tokens(part) for part in tokens.split(_AT_ONCE)])
    moments = [
        Moments.of(torch.cat([judge(part, with_logits=False).features for part in to_uint8(parts).split(_AT_ONCE)]))
        for parts in (images, made)
    ]
    found = counts(tokens, model.quantizer.num_codes)
    print(
        f"{len(images)} images: Frechet distance {frechet_distance(*moments):.2f}, "
        f"PSNR {psnr((made + 1) / 2, (images + 1) / 2).mean():.2f} dB, codebook usage {100 * usage(found):.1f} %, "
        f"perplexity {perplexity(found):.0f} of {len(found)}"
    )
    if options.codes:
        codes = meanings(images, tokens, len(found), images.shape[-1] // model.latent_size[1])
        save_png(image_grid(to_uint8(codes[found.argsort(descending=True)]), 32), options.codes, {})


if __name__ == "__main__":
    main()
