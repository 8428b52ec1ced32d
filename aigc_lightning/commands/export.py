"""`aigc export`: a trained model as a file, for this program or for others."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_lightning.config.command_line import command_parser, parse, split_data_options
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from aigc_lightning.inference.exporting.quantizing import CardWriter
    from aigc_lightning.inference.loaded_model import LoadedModel

_FORMATS = ("safetensors", "onnx", "pt2")
_QUANTIZATIONS = ("int8", "int4-weights")


def export(argv: list[str]) -> int:
    """Write a trained model as a file: its weights for `aigc`, or programs for other runtimes."""
    parser = _parser()
    data_options, rest = split_data_options(argv)
    options = parse(parser, rest)
    _check_changes(options, data_options)
    if options.page is not None or options.runtime is not None:
        return _page(options)
    out = _with_ending(options.out or Path("model"), options.format)
    if options.format == "safetensors":
        if options.graph is not None:
            raise UserError("Weights have no graphs: --graph needs --format onnx or pt2.", "Leave --graph out.")
        return _weights(options.checkpoint, out)

    from aigc_lightning.inference.exporting.files import written
    from aigc_lightning.inference.loaded_model import LoadedModel

    loaded = LoadedModel(options.checkpoint)
    changing = _changing(options, data_options, loaded) if _changes(options) else None
    for line in written(loaded, options.format, out, options.graph, changing):
        echo(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "aigc export",
        export.__doc__,
        "aigc export runs/dcgan_digits/1 --out digits.safetensors",
        "aigc export runs/dcgan_digits/1 --format onnx",
        "aigc export runs/cnn_digits/1 --format onnx --quantize int8",
        "aigc export runs/dcgan_digits/1 --format onnx --page site",
    )
    parser.add_argument("checkpoint", help="a run folder or a .ckpt file")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="safetensors",
        help="safetensors: the weights, for all commands of `aigc`; onnx: programs for onnxruntime and others; "
        "pt2: programs of torch.export, for PyTorch without this package (default: safetensors)",
    )
    parser.add_argument("--out", type=Path, help="the file (default: model.FORMAT)")
    parser.add_argument("--graph", help="the only program to write, such as decode or edit (default: all)")
    parser.add_argument(
        "--quantize",
        choices=_QUANTIZATIONS,
        help="int8: layers in 8 bits, ranges of the run's training images; int4-weights: matrices in 4 bits. A "
        "card says what is gained and lost on held-out images; refused unless 2 %% smaller, faster and above the floor",
    )
    parser.add_argument(
        "--prune",
        type=float,
        metavar="SHARE",
        help="leave out this share of the model's width, the weakest channels; with a card, as above",
    )
    parser.add_argument(
        "--against", metavar="RUN", help="the larger model that this one stands for; with a card, as above"
    )
    parser.add_argument("--judge", metavar="RUN", help="extractor of a generator's Frechet distance, a cnn's run")
    parser.add_argument(
        "--floor",
        type=float,
        help="least score: accuracy in %% of a classifier (default: 0.5 less than before), most Frechet distance of a "
        "smaller generator (default: 10 %% more), else PSNR in dB to the results before (default: 40)",
    )
    parser.add_argument("--force", action="store_true", help="write what would be refused")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write a web page that runs a generator instead")
    parser.add_argument(
        "--runtime", type=Path, metavar="FOLDER", help="of onnxruntime-web, for --page (default: that in node_modules)"
    )
    return parser


def _page(options: argparse.Namespace) -> int:
    """Write a page.

    Raises:
        UserError: options do not go together, or onnxruntime-web is not there.
    """
    if options.page is None or options.format != "onnx":
        raise UserError("A page is an ONNX program in a folder.", "Give both: --format onnx --page FOLDER")
    given = {"--out": options.out, "--graph": options.graph}
    idle = [*_changes(options), *(name for name, value in given.items() if value is not None)]
    if idle:
        raise UserError(f"{idle[0]} has no effect with --page.", "Leave it out.")

    from aigc_lightning.inference.exporting.page import page_written
    from aigc_lightning.inference.loaded_model import LoadedModel

    for line in page_written(LoadedModel(options.checkpoint), options.page, options.runtime):
        echo(line)
    return 0


def _changing(options: argparse.Namespace, data_options: list[str], loaded: "LoadedModel") -> "CardWriter":
    """Return what changes the programs; a model to be pruned is replaced by the smaller one."""
    from aigc_lightning.config.data import chosen_data

    data = chosen_data(data_options, loaded.record.get("data"), str(loaded.path))
    if options.quantize is not None:
        from aigc_lightning.inference.exporting.quantizing import Quantizing

        return Quantizing(loaded.model, options.quantize, data, options.floor, options.force)
    from aigc_lightning.core.checkpoint import load_model
    from aigc_lightning.core.narrowing.narrowed import narrowed
    from aigc_lightning.inference.exporting.narrower import Narrower

    judged = (data, options.judge, options.floor, options.force)
    if options.prune is None:
        return Narrower(loaded.model, load_model(options.against), "smaller", *judged)
    larger, loaded.model = loaded.model, narrowed(loaded.model, options.prune, loaded.path)
    narrower = Narrower(loaded.model, larger, "pruned", *judged)
    narrower.reestimate_norms()
    return narrower


def _changes(options: argparse.Namespace) -> list[str]:
    """Return the options that change programs, of which only one can be given."""
    return [f"--{name}" for name in ("quantize", "prune", "against") if getattr(options, name) is not None]


def _check_changes(options: argparse.Namespace, data_options: list[str]) -> None:
    """Refuse options that would not act or are out of range.

    Raises:
        UserError: there are such options.
    """
    changes = _changes(options)
    if len(changes) > 1:
        raise UserError(f"{' and '.join(changes)} are given.", "Give one of them.")
    if changes and options.format != "onnx":
        raise UserError(f"{changes[0]} writes ONNX programs.", "Add --format onnx.")
    if options.prune is not None and not 0 < options.prune < 1:
        raise UserError(f"--prune is {options.prune}.", "Give a number between 0 and 1, such as 0.3.")
    if options.judge is not None and changes not in (["--prune"], ["--against"]):
        raise UserError("--judge acts on smaller models.", "Add --prune SHARE or --against RUN, or leave it out.")
    given = {"--floor": options.floor is not None, "--force": options.force, "--data": bool(data_options)}
    idle = next((name for name, is_given in given.items() if is_given and not changes), None)
    if idle is not None:
        raise UserError(
            f"{idle} acts on quantized programs and smaller models.",
            "Add --format onnx with --quantize int8, --prune SHARE or --against RUN, or leave it out.",
        )


def _with_ending(out: Path, form: str) -> Path:
    """Return a path with the ending of a format.

    Raises:
        UserError: it has that of another.
    """
    if out.suffix == f".{form}":
        return out
    if out.suffix[1:] in _FORMATS:
        raise UserError(f"--out is {out}, but the format is {form}.", f"Add --format {out.suffix[1:]}.")
    return out.with_name(f"{out.name}.{form}")


def _weights(checkpoint: str, out: Path) -> int:
    from aigc_lightning.core.checkpoint import save_weights
    from aigc_lightning.inference.loaded_model import LoadedModel
    from aigc_lightning.training.next_step import sampling

    loaded = LoadedModel(checkpoint)
    save_weights(loaded.model, out, {"checkpoint": loaded.path.name, "sha256": loaded.digest})
    echo(f"{out} ({out.stat().st_size / 2**20:.1f} MiB).")
    following = sampling(loaded.model, out)
    if following:
        echo(f"Next: {following}")
    return 0
