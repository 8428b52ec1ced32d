"""`aigc style`: style transfer by optimisation, and its judge. Heavy imports wait until the options are valid."""

import argparse
import json
import math
from pathlib import Path

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_HELP = """Style transfer.

Usage: aigc style optimize PHOTO --style PICTURE...    give a photograph the style of other pictures
       aigc style judge PHOTO PICTURE RESULT...        compare results with the photograph and the style

`aigc style optimize --help` and so on show the options. Networks that do it at once are trained by
`aigc fit --config style_fast_photos` (one style) and `aigc fit --config adain_photos` (any style).

Examples:
  aigc style optimize photo.jpg --style painting.jpg
  aigc style judge photo.jpg painting.jpg styled.png"""
_STYLE = "a file, or immunohistochemistry, hubble_deep_field, brick, grass or gravel (pictures of scikit-image)"
_MOST_STEPS, _MOST_LEVELS, _MOST_SIZE = 10_000, 8, 8192


def style(argv: list[str]) -> int:
    """Give photographs the style of other pictures, and judge the results."""
    return dispatch("aigc style", argv, {"optimize": _optimize, "judge": _judge}, _HELP)


def _optimize(argv: list[str]) -> int:
    options = parse(_optimize_parser(), argv, intermixed=True)
    weights = _weights(options.weights, len(options.style))
    if options.mask and len(options.mask) != len(options.style):
        what = f"There are {len(options.mask)} masks and {len(options.style)} styles."
        raise UserError(what, "Give one mask for each style, in the same order.")
    _check_range("--steps", options.steps, 1, _MOST_STEPS)
    _check_range("--levels", options.levels, 1, _MOST_LEVELS)
    _check_range("--size", options.size or 64, 64, _MOST_SIZE)
    _check_positive("--style-scale", options.style_scale)
    if options.content_weight < 0:
        raise UserError(f"--content-weight is {options.content_weight}.", "Give 0 or more.")
    if options.film is not None:
        from aigc_lightning.core.io.film import check_film

        check_film(options.film)

    from aigc_style.optimizing import Settings
    from aigc_style.stylizing import Job, write_stylized

    how = Settings(
        options.steps,
        options.levels,
        options.optimizer,
        options.content_weight,
        options.style_scale,
        options.keep_colors,
    )
    masks = options.mask or []
    job = Job(options.photo, options.style, weights, masks, options.features, options.size, options.device)
    line = write_stylized(job, how, options.out, options.film)
    echo(line)
    return 0


def _judge(argv: list[str]) -> int:
    parser = command_parser(
        "aigc style judge",
        "Compare results with the photograph and the style, by a bank of Gabor filters: features that have "
        "learnt nothing and that no method optimises. Style errors are given relative to the photograph's (1 is no "
        "style at all, 0 the style's own statistics), content errors as 1 - correlation of the outlines (0 is the "
        "photograph, about 1 an unrelated picture). The baseline gives the photograph the mean and the deviation of "
        "the style's colours.",
        "aigc style judge photo.jpg painting.jpg styled.png --json",
    )
    parser.add_argument("photo", type=Path, help="the photograph")
    parser.add_argument("style", help=_STYLE)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT", help="pictures of the photograph's shape")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parse(parser, argv)

    from aigc_style.judging import judged_files

    rows = judged_files(options.photo, options.style, options.results)
    if options.json:
        echo(json.dumps([row._asdict() for row in rows]))
        return 0
    width = max(len(row.name) for row in rows)
    echo(f"{'':{width}}  style error  content error")
    echo(*(f"{row.name:{width}}  {row.style:11.3f}  {row.content:13.3f}" for row in rows))
    return 0


def _optimize_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "aigc style optimize",
        "Give a photograph the style of other pictures by optimising its pixels (Gatys et al., 2016).",
        "aigc style optimize photo.jpg --style painting.jpg --out styled.png",
        "aigc style optimize photo.jpg --style brick grass --weights 2,1 --size 512 --film styled.gif",
    )
    parser.add_argument("photo", type=Path, help="a picture of any size")
    parser.add_argument("--style", nargs="+", required=True, metavar="PICTURE", help=f"styles to mix: {_STYLE}")
    parser.add_argument("--weights", metavar="W,W", help="weights of several styles, such as 2,1 (default: equal)")
    parser.add_argument(
        "--mask",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="where each style goes: grey pictures of the photograph's size, white for the style; what is black in all "
        "of them stays as it is",
    )
    parser.add_argument("--out", type=Path, default=Path("styled.png"), help="PNG or JPEG (default: styled.png)")
    parser.add_argument("--film", type=Path, metavar="FILE", help="a film of the search, .gif or .mp4 (default: none)")
    parser.add_argument("--size", type=int, help="longer side of the result in pixels (default: the photograph's)")
    parser.add_argument("--keep-colors", action="store_true", help="keep the colours: change brightness only")
    parser.add_argument(
        "--content-weight",
        type=_number,
        default=0.06,
        help="of the content relative to the style: less for more style (default: 0.06)",
    )
    parser.add_argument(
        "--style-scale",
        type=_number,
        default=1.0,
        help="longer side of the styles relative to the photograph's: less for finer strokes (default: 1)",
    )
    parser.add_argument("--steps", type=int, default=100, help="iterations at each size (default: 100)")
    parser.add_argument(
        "--levels",
        type=int,
        default=3,
        help="sizes, each twice the one before; 1 optimises the pixels at full size only (default: 3)",
    )
    parser.add_argument("--optimizer", choices=("lbfgs", "adam"), default="lbfgs", help="(default: lbfgs)")
    parser.add_argument(
        "--features",
        metavar="NAME",
        default="efficientnet_lite0",
        help="efficientnet_lite0, vgg16, or a run of cnn (default: efficientnet_lite0)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    return parser


def _weights(text: str | None, count: int) -> list[float]:
    """Return the weights of styles.

    Raises:
        UserError: they are not as many numbers, one is negative, or all are 0.
    """
    if text is None:
        return [1.0] * count
    try:
        weights = [_number(part) for part in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != count or min(weights) < 0 or sum(weights) == 0:
        hint = f"Give {count} numbers of at least 0, not all 0, such as {','.join(['1'] * count)}."
        raise UserError(f"--weights is {text!r}.", hint)
    return weights


def _check_range(option: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UserError(f"{option} is {value}.", f"Give {least} to {most}.")


def _check_positive(option: str, value: float) -> None:
    if value <= 0:
        raise UserError(f"{option} is {value}.", "Give a positive number.")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
