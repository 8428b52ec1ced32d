"""How good a tokenizer is: its reconstructions of held-out images, and the use of its codebook.

    python benchmarks/tokenizer.py RUN JUDGE [--num 5000] [--codes codes.png]

The Frechet distance is between the images and their reconstructions, in the features of a classifier. The picture shows
each code, from the most frequent to the rarest, repeated at all places of an image, as the decoder draws it.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.checkpoint import load_with_record
from aigc_lightning.core.io.pictures import image_grid, save_png, to_uint8
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.metrics.frechet import frechet_distance
from aigc_lightning.metrics.moments import Moments
from aigc_lightning.metrics.pairs import psnr

from aigc_autoregressive.tokenizers.usage import counts, perplexity, usage

_AT_ONCE = 100


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("judge")
    parser.add_argument("--num", type=int, default=5000)
    parser.add_argument("--codes", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded, record = load_with_record(find_checkpoint(options.run))
    model: Any = loaded.eval()
    judge = find_extractor(options.judge)
    source = build_data(record["data"]["class_path"], record["data"]["config"]).val_source()
    images = source.images(range(min(options.num, len(source)))).float() / 127.5 - 1
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
        order = found.argsort(descending=True)
        parts = order[:, None].repeat(1, tokens.shape[1]).split(_AT_ONCE)
        drawn = torch.cat([model.from_tokens(part) for part in parts])
        save_png(image_grid(to_uint8(drawn), 32), options.codes, {})


if __name__ == "__main__":
    main()
