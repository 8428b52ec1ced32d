"""`aigc stylegan`: tools for a trained StyleGAN2. Nothing heavy is imported before the options have been validated."""

import argparse
import math
import re
from pathlib import Path

from aigc_lightning.commands.dispatch import dispatch
from aigc_lightning.config.command_line import command_parser, parse, seed_list
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_HELP = """Tools for a trained StyleGAN2.

Usage: aigc stylegan mix RUN          a sheet of images that mix the styles of two seeds
       aigc stylegan project RUN IMAGE...   find the style that reproduces an image
       aigc stylegan directions RUN   find directions in which styles vary
       aigc stylegan edit RUN         a sheet of images that move along such directions

`aigc stylegan mix --help` and so on show the options.

Examples:
  aigc stylegan mix runs/stylegan2_digits/1
  aigc stylegan directions runs/stylegan2_digits/1
  aigc stylegan edit runs/stylegan2_digits/1 --directions directions.safetensors"""
_LEVELS = "coarse (up to 8x8), middle (up to 32x32), fine (above), all, or numbers of styles such as 0-3 or 2,5-7"
_MOST_STEPS, _MOST_COLUMNS = 100_000, 100


def stylegan(argv: list[str]) -> int:
    """Mix styles, project images, find and follow directions with a trained StyleGAN2."""
    sub_commands = {"mix": _mix, "project": _project, "directions": _directions, "edit": _edit}
    return dispatch("aigc stylegan", argv, sub_commands, _HELP)


def _mix(argv: list[str]) -> int:
    parser = _parser(
        "mix",
        "Show each row's seed with some of its styles taken from each column's seed.",
        "runs/stylegan2_digits/1 --rows 0-5 --columns 10-17 --levels middle,fine",
    )
    parser.add_argument("--rows", default="0-5", help="seeds, such as 0-5 or 3,7 (default: 0-5)")
    parser.add_argument("--columns", default="10-17", help="seeds from which styles are taken (default: 10-17)")
    parser.add_argument("--levels", default="coarse", help=f"styles taken from columns: {_LEVELS} (default: coarse)")
    parser.add_argument("--out", type=Path, default=Path("mix.png"), help="the sheet, a PNG file (default: mix.png)")
    _add_trunc(parser)
    options = parse(parser, argv)
    rows, columns = seed_list(options.rows), seed_list(options.columns)
    _check_png(options.out)

    from aigc_stylegan.mixing import write_mix
    from aigc_stylegan.style_model import StyleModel

    model = StyleModel(options.checkpoint, options.device, options.class_name)
    numbers = write_mix(model, rows, columns, options.levels, options.trunc, options.out)
    echo(f"{len(rows)} by {len(columns)} images, styles {_listed(numbers)} from the columns: {options.out}")
    return 0


def _project(argv: list[str]) -> int:
    parser = _parser(
        "project",
        "Find the style and the noise with which a model reproduces an image.",
        "runs/stylegan2_digits/1 picture.png --space w+ --out projected",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders or patterns")
    parser.add_argument("--out", type=Path, default=Path("projected"), help="folder of results (default: projected)")
    parser.add_argument("--space", choices=("w", "w+"), default="w", help="w+ for one style per layer (default: w)")
    parser.add_argument("--steps", type=int, default=1000, help="steps of the optimizer (default: 1000)")
    parser.add_argument(
        "--features",
        metavar="NAME",
        help="also compare features: a run of cnn on similar images, vgg16 or efficientnet_lite0 "
        "(default: only pixels, at several sizes)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial noise (default: 0)")
    parser.add_argument(
        "--film", choices=("gif", "mp4", "none"), default="gif", help="film of the search (default: gif)"
    )
    options = parse(parser, argv, intermixed=True)
    if not 1 <= options.steps <= _MOST_STEPS:
        raise UserError(f"--steps is {options.steps}.", f"Give 1 to {_MOST_STEPS}.")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}.", "Give 0 or more.")

    from aigc_lightning.core.io.film import check_film
    from aigc_lightning.inference.edit_paths import input_files

    if options.film != "none":
        check_film(Path(f"film.{options.film}"))
    files = [path for path, _ in input_files(options.images, options.out)]

    from aigc_stylegan.projecting import Search, write_projections
    from aigc_stylegan.style_model import StyleModel

    search = Search(options.space, options.steps, options.seed, options.features)
    model = StyleModel(options.checkpoint, options.device, options.class_name)
    write_projections(model, files, search, options.out, None if options.film == "none" else options.film)
    return 0


def _directions(argv: list[str]) -> int:
    parser = _parser(
        "directions",
        "Find directions in which styles vary, largest variation first.",
        "runs/stylegan2_digits/1 --method sefa --num 5",
    )
    parser.add_argument(
        "--method",
        choices=("ganspace", "sefa"),
        default="ganspace",
        help="ganspace: principal components of the styles; sefa: of the layers' weights (default: ganspace)",
    )
    parser.add_argument("--num", type=int, default=10, help="directions (default: 10)")
    parser.add_argument(
        "--levels", default="all", help=f"styles that edits move, and whose layers sefa looks at: {_LEVELS}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("directions.safetensors"), help="the file (default: directions.safetensors)"
    )
    options = parse(parser, argv)
    if options.num < 1:
        raise UserError(f"--num is {options.num}.", "Give 1 or more.")
    if options.out.suffix != ".safetensors":
        raise UserError(f"--out is {options.out}.", "End it in .safetensors.")

    from aigc_stylegan.directions import find_directions
    from aigc_stylegan.style_model import StyleModel

    model = StyleModel(options.checkpoint, options.device, options.class_name)
    shares = find_directions(model, options.method, options.num, options.levels, options.out)
    listed = ", ".join(f"{share:.0%}" for share in shares[:10])
    echo(f"{len(shares)} directions by {options.method} in {options.out}")
    echo(f"Shares of the styles' variance: {listed}")
    return 0


def _edit(argv: list[str]) -> int:
    parser = _parser(
        "edit",
        "Show images moved along directions, one row per image and direction.",
        "runs/stylegan2_digits/1 --directions directions.safetensors --direction 0-4",
        "runs/stylegan2_digits/1 --directions directions.safetensors --latent projected/picture.safetensors",
    )
    parser.add_argument("--seeds", help="of the images, such as 0-7 (default: 0-7)")
    parser.add_argument("--latent", nargs="+", type=Path, metavar="FILE", help="projected images instead of seeds")
    parser.add_argument("--directions", type=Path, required=True, metavar="FILE", help="of `aigc stylegan directions`")
    parser.add_argument("--direction", default="0", help="numbers of directions, such as 2 or 0-4 (default: 0)")
    parser.add_argument(
        "--strength", default="-3..3", help="from..to, in standard deviations of the styles (default: -3..3)"
    )
    parser.add_argument("--columns", type=int, default=7, help="number of strengths (default: 7)")
    parser.add_argument("--levels", help=f"styles to move: {_LEVELS} (default: those of the file)")
    parser.add_argument("--out", type=Path, default=Path("edit.png"), help="the sheet, a PNG file (default: edit.png)")
    _add_trunc(parser)
    options = parse(parser, argv)
    if options.latent and (options.seeds is not None or options.trunc != 1 or options.class_name is not None):
        raise UserError("--latent already names the images to edit.", "Leave --seeds, --class and --trunc out.")
    seeds = [] if options.latent else seed_list(options.seeds or "0-7")
    ends = _ends(options.strength)
    if not 1 <= options.columns <= _MOST_COLUMNS:
        raise UserError(f"--columns is {options.columns}.", f"Give 1 to {_MOST_COLUMNS}.")
    _check_png(options.out)
    try:
        chosen = seed_list(options.direction)
    except UserError as error:
        raise UserError(f"--direction is {options.direction!r}.", "Give numbers, such as 2 or 0-4.") from error

    from aigc_stylegan.editing import Edit, latent_starts, seed_starts, write_edit
    from aigc_stylegan.style_model import StyleModel

    model = StyleModel(options.checkpoint, options.device, options.class_name)
    starts = latent_starts(model, options.latent) if options.latent else seed_starts(model, seeds, options.trunc)
    edit = Edit(options.directions, chosen, ends, options.columns, options.levels)
    numbers = write_edit(model, starts, edit, options.out)
    echo(f"{len(starts) * len(chosen)} rows, styles {_listed(numbers)} moved: {options.out}")
    return 0


def _parser(action: str, about: str, *examples: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all sub-commands share; examples are given without the command."""
    command = f"aigc stylegan {action}"
    parser = command_parser(command, about, *(f"{command} {example}" for example in examples))
    parser.add_argument("checkpoint", help="a run folder, a .ckpt or an exported .safetensors file of a stylegan2")
    parser.add_argument("--class", dest="class_name", help="class of the images, for class-conditional models")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    return parser


def _add_trunc(parser: argparse.ArgumentParser) -> None:
    text = "truncation: 0 for the mean image, 1 for full variety (default: 1)"
    parser.add_argument("--trunc", type=_number, default=1.0, help=text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _ends(text: str) -> tuple[float, float]:
    """Return both ends of a range such as "-3..3", or a single number twice.

    Raises:
        UserError: it is neither.
    """
    number = r"([+-]?(?:\d+\.?\d*|\.\d+?))"
    found = re.fullmatch(rf"{number}(?:\.\.{number})?", text.strip())
    if not found:
        raise UserError(f"--strength is {text!r}.", "Write -3..3, or one number.")
    return float(found[1]), float(found[2] or found[1])


def _check_png(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise UserError(f"--out is {path}.", "End it in .png.")


def _listed(numbers: list[int]) -> str:
    """Return numbers in order as a text such as "0-3, 6"."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in zip(starts, ends, strict=True))
