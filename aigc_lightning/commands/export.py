"""`aigc export`: a trained model as a file, for this program or for others."""

import argparse
from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse, split_data_options
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_FORMATS = ("safetensors", "onnx", "pt2")
_QUANTIZATIONS = ("int8", "int4-weights")


def export(argv: list[str]) -> int:
    """Write a trained model as a file: its weights for `aigc`, or programs for other runtimes."""
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
        "--floor",
        type=float,
        help="least score of a quantized program: accuracy in %% of a classifier (default: 0.5 less than in float32), "
        "else PSNR in dB to the results in float32 (default: 40)",
    )
    parser.add_argument("--force", action="store_true", help="write a quantized program that would be refused")
    parser.add_argument("--page", type=Path, metavar="FOLDER", help="write a web page that runs a generator instead")
    parser.add_argument(
        "--runtime", type=Path, metavar="FOLDER", help="of onnxruntime-web, for --page (default: that in node_modules)"
    )
    data_options, rest = split_data_options(argv)
    options = parse(parser, rest)
    _check_quantization(options, data_options)
    if options.page is not None or options.runtime is not None:
        return _page(options)
    out = _with_ending(options.out or Path("model"), options.format)
    if options.format == "safetensors":
        if options.graph is not None:
            raise UserError("Weights have no graphs: --graph needs --format onnx or pt2.", "Leave --graph out.")
        return _weights(options.checkpoint, out)

    from aigc_lightning.inference.exporting.files import written
    from aigc_lightning.inference.loaded_model import LoadedModel

    loaded, quantizing = LoadedModel(options.checkpoint), None
    if options.quantize is not None:
        from aigc_lightning.config.data import chosen_data
        from aigc_lightning.inference.exporting.quantizing import Quantizing

        data = chosen_data(data_options, loaded.record.get("data"), str(loaded.path))
        quantizing = Quantizing(loaded.model, options.quantize, data, options.floor, options.force)
    for line in written(loaded, options.format, out, options.graph, quantizing):
        echo(line)
    return 0


def _page(options: argparse.Namespace) -> int:
    """Write a page.

    Raises:
        UserError: options do not go together, or onnxruntime-web is not there.
    """
    if options.page is None or options.format != "onnx":
        raise UserError("A page is an ONNX program in a folder.", "Give both: --format onnx --page FOLDER")
    given = {"--out": options.out, "--graph": options.graph, "--quantize": options.quantize}
    idle = next((name for name, value in given.items() if value is not None), None)
    if idle is not None:
        raise UserError(f"{idle} has no effect with --page.", "Leave it out.")

    from aigc_lightning.inference.exporting.page import found_runtime, page_written
    from aigc_lightning.inference.loaded_model import LoadedModel

    runtime = found_runtime(options.runtime)
    for line in page_written(LoadedModel(options.checkpoint), options.page, runtime):
        echo(line)
    return 0


def _check_quantization(options: argparse.Namespace, data_options: list[str]) -> None:
    """Refuse options that would not act.

    Raises:
        UserError: there are such options.
    """
    if options.quantize is not None:
        if options.format != "onnx":
            raise UserError("--quantize writes ONNX programs.", "Add --format onnx.")
        return
    given = {"--floor": options.floor is not None, "--force": options.force, "--data": bool(data_options)}
    idle = next((name for name, is_given in given.items() if is_given), None)
    if idle is not None:
        raise UserError(f"{idle} acts on quantized programs.", "Add --format onnx --quantize int8, or leave it out.")


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
