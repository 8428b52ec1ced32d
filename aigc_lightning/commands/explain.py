"""`aigc explain`: what a model sees, what its latents and channels draw, and what it remembers."""

import argparse
from pathlib import Path

from aigc_lightning.config.command_line import (
    MODEL_OPTIONS,
    command_parser,
    parse,
    seed_list,
    split_data_options,
    split_model_options,
)
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_MOST_PICTURES, _MOST_SEEDS = 32, 64


def explain(argv: list[str]) -> int:
    """Show on a page what a model sees in pictures, what its latents and channels draw, and what it remembers."""
    parser = command_parser(
        "aigc explain",
        explain.__doc__,
        "aigc explain runs/cnn_digits/1 PICTURES --out explained",
        'aigc explain runs/diffusion_shapes_text/1 PICTURES --prompt "a red circle"',
        "aigc explain runs/cgan_digits/1 --classifier runs/cnn_digits/1",
        "aigc explain runs/cgan_digits/1 --seed 7 --extractor runs/cnn_digits/1",
        usage="aigc explain RUN PICTURE... [options]         what it sees in pictures\n"
        "       aigc explain RUN [--classifier RUN]           what its latents and channels draw\n"
        "       aigc explain RUN --seed 7 --extractor RUN     the training images nearest to what it makes",
        note=MODEL_OPTIONS,
    )
    parser.add_argument("run", help="a run folder, a .ckpt or an exported .safetensors file")
    parser.add_argument("pictures", nargs="*", help="files, folders or patterns")
    parser.add_argument("--class", dest="class_name", help="class to explain (default: the predicted one)")
    parser.add_argument("--prompt", help="show which places of the pictures look at which of its words")
    parser.add_argument("--classifier", help="run of a classifier that measures what directions and channels do")
    parser.add_argument("--seed", help="seeds, such as 7 or 0-7, whose nearest training images are shown")
    parser.add_argument("--extractor", help="of the features by which images are near (default: inception)")
    parser.add_argument("--out", type=Path, default=Path("explained"), help="folder of results (default: explained)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    data_options, own = split_data_options(argv)
    given, own = split_model_options(parser, own)
    options = parse(parser, own, intermixed=True)
    seeds = None if options.seed is None else seed_list(options.seed)
    _check(options, data_options, seeds, given)

    from aigc_lightning.config.data import chosen_data
    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.inference.edit_paths import input_files
    from aigc_lightning.inference.explaining.page import JSON_FILE, PAGE_FILE, save
    from aigc_lightning.inference.explaining.subjects import Asked, explain_drawing, explain_memory, explain_pictures
    from aigc_lightning.inference.loaded_model import LoadedModel

    files = [path for path, _ in input_files(options.pictures, options.out)] if options.pictures else []
    if len(files) > _MOST_PICTURES:
        raise UserError(f"{len(files)} pictures are given.", f"Give up to {_MOST_PICTURES}.")
    with quiet_console():
        loaded = LoadedModel(options.run, options.device)
        if seeds is not None:
            data = chosen_data(data_options, loaded.record.get("data"), f"the record of {loaded.path.name}")
            parts = [explain_memory(loaded, seeds, data, options.extractor)]
        elif files:
            parts = explain_pictures(loaded, files, Asked(options.class_name, options.prompt, given))
        else:
            parts = explain_drawing(loaded, options.classifier)
        save(options.out, f"{loaded.name}, {loaded.path.stem}", loaded.origin, parts)
    for part in parts:
        echo(f"{part.title}{'' if part.rows else f': {part.caption}'}")
    echo(f"Page: {options.out / PAGE_FILE}  Numbers: {options.out / JSON_FILE}")
    return 0


def _check(
    options: argparse.Namespace, data_options: list[str], seeds: list[int] | None, given: dict[str, str]
) -> None:
    """Refuse options that would have no effect; those `given` are the model's own.

    Raises:
        UserError: there is one.
    """
    subject = "pictures" if options.pictures else "--seed" if seeds is not None else "neither pictures nor --seed"
    if options.pictures and seeds is not None:
        raise UserError("Pictures and --seed are both given.", "Leave one of them out.")
    if seeds is not None and len(seeds) > _MOST_SEEDS:
        raise UserError(f"--seed names {len(seeds)} seeds.", f"Give up to {_MOST_SEEDS}.")
    acts = {
        "--class": (options.class_name, bool(options.pictures)),
        "--prompt": (options.prompt, bool(options.pictures)),
        **{f"--{name}": (value, bool(options.pictures)) for name, value in given.items()},
        "--classifier": (options.classifier, not options.pictures and seeds is None),
        "--extractor": (options.extractor, seeds is not None),
        "--data": (data_options or None, seeds is not None),
    }
    for name, (value, effective) in acts.items():
        if value is not None and not effective:
            raise UserError(f"{name} has no effect with {subject}.", "Leave it out; see: aigc explain --help")
