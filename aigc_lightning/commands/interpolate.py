"""`aigc interpolate`: films of walks through a model's latent space."""

import argparse
from pathlib import Path

from aigc_lightning.config.command_line import MODEL_OPTIONS, parse, seed_list, split_model_options
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_MOST_FRAMES = 10_000


def interpolate(argv: list[str]) -> int:
    """Walk from seed to seed through a model's latent space, as a film."""
    parser = argparse.ArgumentParser(
        "aigc interpolate", description=interpolate.__doc__, epilog=MODEL_OPTIONS, exit_on_error=False
    )
    parser.add_argument("checkpoint", help="a run folder, a .ckpt or an exported .safetensors file")
    parser.add_argument("--seeds", default="0-7", help="seeds to visit, such as 0-7 or 3,7,20 (default: 0-7)")
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
    parser.add_argument("--space", help="where to walk, for models with several latent spaces, such as z or w")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    given, own = split_model_options(parser, argv)
    options = parse(parser, own)
    options.given = given
    seeds = seed_list(options.seeds)
    if options.traverse is not None:
        return _traverse(options, seeds)
    if len(seeds) < 2:
        raise UserError("A walk needs at least two seeds.", "Write --seeds 0,1, or more of them.")
    if options.frames < 1 or options.frames * len(seeds) > _MOST_FRAMES:
        raise UserError(
            f"{len(seeds)} seeds with --frames {options.frames} are {options.frames * len(seeds)} frames.",
            f"Give 1 to {_MOST_FRAMES} frames in all.",
        )
    out = options.out or Path("walk.gif")

    from aigc_lightning.core.io.film import check_film

    check_film(out)

    from aigc_lightning.inference.interpolate import LatentModel, write_walk

    model = LatentModel(options.checkpoint, options.device, options.class_name, options.space, options.given)
    paths = write_walk(model, seeds, options.frames, out, with_grid=options.grid)
    echo(f"{len(seeds) * options.frames} frames in {paths[0]}{_of_class(model.class_name)}")
    echo(f"Its steps: {', '.join(map(str, paths[1:]))}")
    return 0


def _traverse(options: argparse.Namespace, seeds: list[int]) -> int:
    out = options.out or Path("traverse.png")
    if options.traverse < 1:
        raise UserError(f"--traverse is {options.traverse}.", "Give 1 or more dimensions.")
    if options.space is not None:
        raise UserError("--traverse goes along standard normal latents.", "Leave --space out.")
    if options.grid:
        raise UserError("--traverse makes a grid anyway.", "Leave --grid out.")
    if out.suffix.lower() != ".png":
        raise UserError(f"--traverse makes a picture, and --out is {out}.", "End it in .png.")

    from aigc_lightning.inference.interpolate import LatentModel, write_traversal

    model = LatentModel(options.checkpoint, options.device, options.class_name, given=options.given)
    dimensions = write_traversal(model, seeds[0], options.traverse, out)
    listed = ", ".join(map(str, dimensions))
    echo(f"Seed {seeds[0]}{_of_class(model.class_name)}, a row for each of the dimensions {listed}: {out}")
    return 0


def _of_class(name: str | None) -> str:
    return "" if name is None else f", class {name}"
