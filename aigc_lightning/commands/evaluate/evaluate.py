"""`aigc evaluate` and `aigc compare`: scores of models and folders, and tables of scores."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from aigc_lightning.config.command_line import (
    command_parser,
    option_names,
    parse,
    split_data_options,
    split_model_options,
)
from aigc_lightning.errors import UserError, did_you_mean

_PARTS = ("train", "val", "test")


def evaluate(argv: list[str]) -> int:
    """Score a model on its data, a folder of images against another, or an extractor: a table, JSON and a page."""
    scored(argv)
    return 0


def scored(argv: list[str]) -> Path:
    """Run `aigc evaluate` and return the folder of its results.

    Raises:
        UserError: an option is invalid, or nothing can be scored.
    """
    parser = command_parser(
        "aigc evaluate",
        evaluate.__doc__,
        "aigc evaluate runs/dcgan_digits/1 --extractor runs/cnn_digits/1",
        "aigc evaluate --fake samples --real photographs --extractor dinov2",
        "aigc evaluate runs/vae_digits/1 --metrics psnr,ssim --part test",
        "aigc evaluate --extractor efficientnet_lite0 --data digits --metrics retrieval",
        note="A model's own options follow, such as --steps 20: `aigc plugins show NAME` lists them.",
        usage="aigc evaluate RUN_OR_CKPT [--data NAME [--data.OPTION V ...]] [options]\n"
        "       aigc evaluate --fake FOLDER --real FOLDER [options]\n"
        "       aigc evaluate --extractor NAME_OR_RUN --data NAME [options]",
    )
    parser.add_argument("target", nargs="?", help="a run folder, a .ckpt or an exported .safetensors file")
    parser.add_argument("--fake", type=Path, help="images to score, instead of a model's")
    parser.add_argument("--real", type=Path, help="images to compare them with")
    parser.add_argument("--metrics", help="such as frechet_distance,copy_rate,psnr (default: all that apply)")
    parser.add_argument("--num", type=int, help="images on each side (default: all, up to 10,000)")
    parser.add_argument(
        "--extractor",
        help="inception, dinov2, clip, efficientnet_lite0, or a run of a classifier (default: inception)",
    )
    parser.add_argument("--resize", help="tf1, clean or torchmetrics (default: the extractor's own)")
    parser.add_argument("--weights", type=Path, help="file of a named extractor's weights")
    parser.add_argument("--part", choices=_PARTS, help="part of the data (default: train for samples, else held out)")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the samples (default: 0)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument("--out", type=Path, help="folder of scores.json and report.html (default: RUN/evaluation)")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    data_options, rest = split_data_options(argv)
    given, own = split_model_options(parser, rest)
    options = parse(parser, own)
    options.given = given
    options.known = option_names(parser)
    _check(options, data_options, options.known)
    from aigc_lightning.commands.evaluate.scoring import (
        run,
    )  # imports torch: only after the options have been validated

    return run(options, data_options)


def compare(argv: list[str]) -> int:
    """Put the scores of evaluated runs side by side; scores of different protocols are refused."""
    parser = command_parser(
        "aigc compare",
        compare.__doc__,
        "aigc compare runs/dcgan_digits/1 runs/dcgan_digits/2",
        "aigc compare runs/*/1/evaluation --json",
    )
    parser.add_argument("runs", nargs="+", help="runs, folders or JSON files with scores of aigc evaluate")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parse(parser, argv)
    if len(options.runs) < 2:
        raise UserError("Only one run is given.", "Give two or more: aigc compare RUN_A RUN_B")
    from aigc_lightning.commands.evaluate.compare import print_table

    print_table(options.runs, as_json=options.json)
    return 0


def _check(options: argparse.Namespace, data_options: list[str], known: Iterable[str]) -> None:
    """Refuse options that contradict each other.

    Raises:
        UserError: neither a model nor two folders are given, a number is out of range, or an option is unknown.
    """
    if options.given and options.target is None:
        name = f"--{next(iter(options.given))}"
        hint = did_you_mean(name, known) or "See: aigc evaluate --help"
        raise UserError(f"aigc evaluate does not know {name!r}.", hint)
    folders = options.fake is not None or options.real is not None
    if folders and (options.target or data_options or options.part):
        given = options.target or (data_options[0] if data_options else "--part")
        raise UserError(
            f"Folders and {given} are both given.", "Score a model on data, or --fake FOLDER against --real FOLDER."
        )
    if folders and (options.fake is None or options.real is None):
        raise UserError("Only one folder is given.", "Give both: --fake FOLDER --real FOLDER")
    if not folders and options.target is None and not (options.extractor and data_options):
        hint = "Give a run or checkpoint, --fake FOLDER --real FOLDER, or --extractor NAME --data NAME."
        raise UserError("Nothing to score is given.", hint)
    if options.num is not None and options.num < 2:
        raise UserError(f"--num is {options.num}.", "Give at least 2.")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}.", "Give 0 or more.")
