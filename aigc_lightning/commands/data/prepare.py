"""`aigc data prepare`: the images of a large folder, decoded and resized in advance."""

from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.counting import counting
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.shell import command

_SHOWN = 5
_RULES = ("crop", "pad", "stretch")


def main(argv: list[str]) -> int:
    """Decode and resize the images of a folder into one file, for `--data image_folder --data.root DST`."""
    parser = command_parser(
        "aigc data prepare",
        main.__doc__,
        "aigc data prepare photographs small --size 64",
        "aigc data prepare scans grey --size 96 128 --channels 1 --resize pad",
        note="After an interruption the same command continues; later it reads only files that were added or changed.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="folder of images, as `--data image_folder` takes it")
    parser.add_argument("target", metavar="DST", type=Path, help="folder to create, complete or update")
    parser.add_argument("--size", type=int, nargs="+", required=True, help="side, or height and width, in pixels")
    parser.add_argument("--channels", type=int, default=3, help="1 (grey), 3 (RGB) or 4 (RGBA) (default: 3)")
    parser.add_argument("--resize", default="crop", help="crop, pad or stretch (default: crop)")
    parser.add_argument(
        "--profile",
        choices=("srgb", "keep"),
        default="srgb",
        help="convert colours to sRGB, or keep them (default: srgb)",
    )
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU)")
    options = parse(parser, argv)
    if len(options.size) > 2:
        raise UserError(f"--size has {len(options.size)} numbers.", "Give one, or height and width.")
    if options.resize not in _RULES:
        raise UserError(f'There is no resize rule "{options.resize}".', did_you_mean(options.resize, _RULES))
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers is {options.workers}.", "Give at least 1.")

    from aigc_lightning.core.spec import ImageSpec
    from aigc_lightning.data.folders.files import available_processors
    from aigc_lightning.data.folders.prepared_format import Protocol
    from aigc_lightning.data.folders.preparing import prepare

    shape = ImageSpec(options.channels, options.size[0], options.size[-1]).shape
    protocol = Protocol(options.source.expanduser().resolve(), shape, options.resize, options.profile)
    target = options.target.expanduser()
    with counting("Preparing") as watch:
        done = prepare(protocol, target, options.workers or available_processors(), watch)
    bad = [file for file in done.files if file.row < 0]
    for file in bad[:_SHOWN]:
        echo(f"Left out {file.name}: {file.reason}.")
    if len(bad) > _SHOWN:
        echo(f"Left out {len(bad) - _SHOWN:,} more.")
    echo(f"{len(done.files) - len(bad):,} images as {protocol} in {target}; {counted(done.made, 'file')} read.")
    echo(f"Next: {_training(target, shape, options.resize, options.profile)}")
    return 0


def _training(target: Path, shape: tuple[int, int, int], resize: str, profile: str) -> str:
    """Return a command that trains on a prepared folder; dcgan takes only multiples of 4."""
    channels, *sides = shape
    model = "dcgan" if all(side % 4 == 0 and side >= 8 for side in sides) else "autoencoder"
    size = str(sides[0]) if sides[0] == sides[1] else f"[{sides[0]},{sides[1]}]"
    others = [] if channels == 3 else ["--data.channels", channels]
    others += [] if resize == "crop" else ["--data.resize", resize]
    others += [] if profile == "srgb" else ["--data.profile", profile]
    data = ("--data", "image_folder", "--data.root", target, "--data.size", size)
    return command("aigc", "fit", "--model", model, *data, *others)
