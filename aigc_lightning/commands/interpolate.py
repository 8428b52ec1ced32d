"""`aigc interpolate`: films of walks through a model's latent space."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_lightning.config.command_line import MODEL_OPTIONS, command_parser, parse, seed_list, split_model_options
from aigc_lightning.config.signing import add_sign_option, signing_keys
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from aigc_lightning.inference.trust.signer import PictureSigner
    from aigc_lightning.inference.trust.watermark import PictureMarker

_MOST_FRAMES = 10_000


def interpolate(argv: list[str]) -> int:
    """Walk from seed to seed, or from picture to picture, through a model's latent space, as a film."""
    parser = command_parser(
        "aigc interpolate",
        interpolate.__doc__,
        "aigc interpolate runs/dcgan_digits/1 --seeds 0-7 --out walk.gif",
        "aigc interpolate runs/vae_digits/1 --pictures a.png b.png --grid",
        "aigc interpolate runs/vae_digits/1 --traverse 8 --out dimensions.png",
        note=MODEL_OPTIONS,
    )
    parser.add_argument("checkpoint", help="a run folder, a .ckpt or an exported .safetensors file")
    parser.add_argument("--seeds", help="seeds to visit, such as 0-7 or 3,7,20 (default: 0-7)")
    parser.add_argument(
        "--pictures",
        type=Path,
        nargs="+",
        help="files to visit in place of seeds, for models such as vae",
    )
    parser.add_argument("--frames", type=int, default=30, help="frames from one seed to the next (default: 30)")
    parser.add_argument(
        "--out", type=Path, help="walk.gif (the default), any other .gif or .mp4; a .png with --traverse"
    )
    parser.add_argument(
        "--grid", action="store_true", help="also write a picture with one row from each seed to the next"
    )
    parser.add_argument(
        "--traverse",
        type=int,
        metavar="N",
        help="instead of a walk, a picture with one row for each of the N latent dimensions that change the first "
        "seed's picture most, each from -3 to 3",
    )
    parser.add_argument("--class", dest="class_name", help="class of the pictures, for class-conditional models")
    parser.add_argument("--prompt", help="text of the pictures, for models that take prompts")
    parser.add_argument("--space", help="where to walk, for models with several latent spaces, such as z or w")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    add_sign_option(parser)
    given, own = split_model_options(parser, argv)
    options = parse(parser, own)
    options.given = given
    if options.pictures and options.seeds is not None:
        raise UserError("Seeds and pictures are both given.", "Leave one of them out.")
    seeds = [] if options.pictures else seed_list(options.seeds or "0-7")
    if options.traverse is not None:
        return _traverse(options, seeds)
    return _walk(options, seeds)


def _walk(options: argparse.Namespace, seeds: list[int]) -> int:
    noun, stations = ("pictures", options.pictures) if options.pictures else ("seeds", seeds)
    if len(stations) < 2:
        raise UserError(f"A walk needs at least two {noun}.", "Write --seeds 0,1, or more of them, or --pictures A B.")
    if options.frames < 1 or options.frames * len(stations) > _MOST_FRAMES:
        raise UserError(
            f"{len(stations)} {noun} with --frames {options.frames} are {options.frames * len(stations)} frames.",
            f"Give 1 to {_MOST_FRAMES} frames in all.",
        )
    out = options.out or Path("walk.gif")

    from aigc_lightning.core.io.film import check_film

    check_film(out)

    from aigc_lightning.inference.interpolate import LatentModel, write_walk

    model = LatentModel(
        options.checkpoint, options.device, options.class_name, options.space, options.given, options.prompt
    )
    signer, marker = _signer(options), _marker(options)
    paths = write_walk(
        model,
        seeds,
        options.frames,
        out,
        with_grid=options.grid,
        pictures=options.pictures or (),
        signer=signer,
        marker=marker,
    )
    echo(f"{len(stations) * options.frames} frames in {paths[0]}{_of_class(model.class_name)}")
    echo(f"Its steps: {', '.join(map(str, paths[1:]))}")
    return 1 if (signer and signer.failed) or (marker and marker.failed) else 0


def _traverse(options: argparse.Namespace, seeds: list[int]) -> int:
    out = options.out or Path("traverse.png")
    if options.pictures:
        raise UserError("--traverse starts from a seed, not from pictures.", "Give --seeds, or leave --traverse out.")
    if options.traverse < 1:
        raise UserError(f"--traverse is {options.traverse}.", "Give 1 or more dimensions.")
    if options.space is not None:
        raise UserError("--traverse goes along standard normal latents.", "Leave --space out.")
    if options.grid:
        raise UserError("--traverse makes a grid anyway.", "Leave --grid out.")
    if out.suffix.lower() != ".png":
        raise UserError(f"--traverse makes a picture, and --out is {out}.", "End it in .png.")

    from aigc_lightning.inference.interpolate import LatentModel, write_traversal

    model = LatentModel(
        options.checkpoint, options.device, options.class_name, given=options.given, prompt=options.prompt
    )
    signer, marker = _signer(options), _marker(options)
    dimensions = write_traversal(model, seeds[0], options.traverse, out, signer, marker)
    listed = ", ".join(map(str, dimensions))
    echo(f"Seed {seeds[0]}{_of_class(model.class_name)}, a row for each of the dimensions {listed}: {out}")
    return 1 if (signer and signer.failed) or (marker and marker.failed) else 0


def _marker(options: argparse.Namespace) -> "PictureMarker | None":
    from aigc_lightning.inference.trust.watermark import PictureMarker

    return None if options.watermark is None else PictureMarker(options.watermark, options.device)


def _signer(options: argparse.Namespace) -> "PictureSigner | None":
    from aigc_lightning.inference.trust.signer import PictureSigner

    keys = signing_keys(options.sign)
    return None if keys is None else PictureSigner(keys)


def _of_class(name: str | None) -> str:
    return "" if name is None else f", class {name}"
