"""Whether PSNR agrees with the super-resolution literature: bicubic enlargement of Set5.

    python benchmarks/set5.py FOLDER

FOLDER holds `img_001_SRF_2_HR.png`, `img_001_SRF_2_LR.png` and so on, for five images and the scales 2, 3 and 4. The
published values are those of bicubic interpolation on luma, without a border as wide as the scale in pixels.
Exits with code 1 if one of them is missed by more than 0.01 dB.
"""

import argparse
import sys
from pathlib import Path

import torch

from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.data.decode import decode
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.metrics.resize import resize

PUBLISHED = {2: 33.67, 3: 30.40, 4: 28.43}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(machine_line())
    worst = 0.0
    print("| scale | images | PSNR (Y) | published |\n|---|---|---|---|")
    for scale, published in PUBLISHED.items():
        values = []
        for path in sorted(folder.rglob(f"*_SRF_{scale}_HR.png")):
            target = decode(path)[None].float() / 255
            small = decode(path.with_name(path.name.replace("_HR", "_LR")))[None]
            enlarged = resize(small, (target.shape[2], target.shape[3]), "clean").round() / 255
            values.append(psnr(enlarged, target, channel="y", border=scale))
        if not values:
            parser.error(f"{folder} holds no images of scale {scale}")
        mean = torch.cat(values).mean().item()
        worst = max(worst, abs(mean - published))
        print(f"| {scale} | {len(values)} | {mean:.3f} dB | {published:.2f} dB |")
    return int(worst > 0.01)


if __name__ == "__main__":
    sys.exit(main())
