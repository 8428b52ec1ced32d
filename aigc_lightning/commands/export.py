"""`aigc export`: a trained model as a file, for this program or for others."""

from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_FORMATS = ("safetensors", "onnx", "pt2")


def export(argv: list[str]) -> int:
    """Write a trained model as a file: its weights for `aigc`, or programs for other runtimes."""
    parser = command_parser(
        "aigc export",
        export.__doc__,
        "aigc export runs/dcgan_digits/1 --out digits.safetensors",
        "aigc export runs/dcgan_digits/1 --format onnx",
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
    options = parse(parser, argv)
    out = _with_ending(options.out or Path("model"), options.format)
    if options.format == "safetensors":
        if options.graph is not None:
            raise UserError("Weights have no graphs: --graph needs --format onnx or pt2.", "Leave --graph out.")
        return _weights(options.checkpoint, out)

    from aigc_lightning.inference.exporting.files import written
    from aigc_lightning.inference.loaded_model import LoadedModel

    for line in written(LoadedModel(options.checkpoint), options.format, out, options.graph):
        echo(line)
    return 0


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
