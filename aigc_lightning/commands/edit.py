"""`aigc edit`: edit pictures with a model or with plain operations."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from aigc_lightning import plugins
from aigc_lightning.config.command_line import MODEL_OPTIONS, command_parser, option_names, parse, split_model_options
from aigc_lightning.config.prompts import read_prompts
from aigc_lightning.config.signing import add_sign_option, signing_keys
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.inference.edit_text import edit_text as edit_text
from aigc_lightning.shell import command

_ABOUT = """Change pictures with a trained model, with plain operations, or both.

Results have the size of their pictures (times the model's scale) and keep transparency, EXIF orientation and colour
profile; inputs are never overwritten. Beside them: before_after.png, and compare.html to slide between both."""

_OPERATIONS = """operations, separated by commas:
  crop=WxH        from the centre; crop=WxH+X+Y from a corner
  rotate=90       degrees clockwise
  flip=h          swap left and right; flip=v: top and bottom
  brightness=1.2, contrast=1.2, sharpen=2     1 changes nothing
  denoise=3       median of 3x3 pixels"""

#: Options of the command that only models take, by their names in the parsed options.
_OF_MODELS = {
    "seed": "--seed",
    "direction": "--direction",
    "prompt": "--prompt",
    "mask": "--mask",
    "mask_from_color": "--mask-from-color",
    "reference": "--reference",
}
_LEAST_TILE, _MOST_TILE = 16, 8192


def edit(argv: list[str]) -> int:
    """Change pictures with a trained model or with plain operations."""
    parser = _parser()
    given, own = split_model_options(parser, argv)
    options = parse(parser, own, intermixed=True)
    target, images = _target_and_images(options, given, parser)
    if not _LEAST_TILE <= options.tile <= _MOST_TILE:
        raise UserError(f"--tile is {options.tile}.", f"Give pixels from {_LEAST_TILE} to {_MOST_TILE}.")
    if options.seed is not None and options.seed < 0:
        raise UserError(f"--seed is {options.seed}.", "Give 0 or more.")
    _check_hole_color(options)
    prompts = [] if options.prompt is None else read_prompts([options.prompt])

    from aigc_lightning.inference.operations import parse_operations

    first = options.ops if target is None else options.before
    before = [] if first is None else parse_operations(first)
    after = [] if options.after is None else parse_operations(options.after, after_model=True)
    moving = next((operation.text for operation in before if operation.moves_pixels), None)
    if options.mask is not None and moving:
        what = f"--before {moving} would change a picture but not its mask."
        raise UserError(what, "Change both in advance: aigc edit --ops OPERATIONS IMAGE...")

    from aigc_lightning.inference.edit_paths import Results, input_files, paired_files

    files = input_files(images, options.out)
    masks = {} if options.mask is None else paired_files(options.mask, files, "mask")
    references = [paired_files(given, files, "reference") for given in options.reference or ()]
    results = Results(options.out, files, [*masks.values(), *(path for found in references for path in found.values())])

    from aigc_lightning.inference.edit import Steps, edit_files  # imports torch, which a mistake need not wait for
    from aigc_lightning.inference.edit_conditions import Conditions
    from aigc_lightning.inference.picture_editor import load_editor
    from aigc_lightning.inference.trust.signer import PictureSigner
    from aigc_lightning.inference.trust.watermark import PictureMarker

    marker = None if options.watermark is None else PictureMarker(options.watermark, options.device)
    keys = signing_keys(options.sign)
    signer = None if keys is None else PictureSigner(keys)
    editor, origin = None, None
    if target is not None:
        prompt = prompts[0] if prompts else None
        rest = (options.seed, options.direction, given, options.mask_from_color)
        conditions = Conditions(masks, references, prompt, *rest)
        editor, origin = load_editor(target, options.device, options.tile, conditions)
    text = partial(edit_text, origin, ",".join(operation.text for operation in before + after))
    return edit_files(results, Steps(editor, before, after, text, options.opaque, signer, marker))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "aigc edit",
        _ABOUT,
        'aigc edit RUN photo.jpg holiday/ "scans/*.png" --out edited',
        "aigc edit RUN photo.jpg --before crop=512x512 --after sharpen=1.5",
        'aigc edit RUN photo.jpg --mask hole.png --prompt "a red circle"',
        "aigc edit NAME photo.jpg              NAME from: aigc plugins list editor",
        "aigc edit --ops rotate=90,brightness=1.2 photo.jpg",
        note=f"{_OPERATIONS}\n\n{MODEL_OPTIONS}",
        usage="aigc edit RUN_OR_CKPT IMAGE... [options]\n       aigc edit --ops OPERATIONS IMAGE... [options]",
    )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="RUN_OR_CKPT IMAGE",
        help="a run folder, .ckpt or .safetensors file (not with --ops), then files, folders or globs of pictures",
    )
    parser.add_argument("--out", type=Path, default=Path("edited"), help="folder of the results (default: edited)")
    parser.add_argument("--ops", metavar="OPERATIONS", help="plain operations without a model")
    parser.add_argument("--before", metavar="OPERATIONS", help="plain operations before the model")
    parser.add_argument(
        "--after", metavar="OPERATIONS", help="operations after the model, also those of aigc plugins list operation"
    )
    parser.add_argument("--opaque", action="store_true", help="composite transparent pictures on white")
    parser.add_argument(
        "--tile",
        type=int,
        default=1024,
        help="side of the tiles into which larger pictures are cut, for models that take any size (default: 1024)",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE|FOLDER",
        help="grey pictures, white where the model fills: one for all pictures, or a folder with one of each name",
    )
    parser.add_argument(
        "--mask-from-color",
        metavar="COLOR",
        help="instead of masks: fill the pixels of a picture that have a colour, such as #ff00ff, red or transparent",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        action="append",
        metavar="FILE|FOLDER",
        help="pictures to take something from, named like masks; given several times for models that mix several",
    )
    parser.add_argument("--prompt", help="what to make of the pictures, for models that take prompts")
    parser.add_argument("--seed", type=int, help="variant, for models that make several, such as pix2pix")
    parser.add_argument(
        "--direction", choices=("AtoB", "BtoA"), help="for models with two directions, such as cyclegan"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    add_sign_option(parser)
    return parser


def _check_hole_color(options: argparse.Namespace) -> None:
    """Refuse a colour of holes that there is not, or that comes with masks.

    Raises:
        UserError: it is such a colour.
    """
    color = options.mask_from_color
    if color is None:
        return
    if options.mask is not None:
        raise UserError("--mask and --mask-from-color are both given.", "Give one of them.")
    from PIL import ImageColor

    try:
        if color != "transparent":
            ImageColor.getrgb(color)
    except ValueError:
        raise UserError(
            f"--mask-from-color is {color!r}.", "Give a colour such as #ff00ff, red or transparent."
        ) from None


def _target_and_images(
    options: argparse.Namespace, given: Mapping[str, str], parser: argparse.ArgumentParser
) -> tuple[str | None, list[str]]:
    """Return the run or checkpoint, None with --ops, and what names the pictures.

    Args:
        options: of the command.
        given: the options that the command does not know, which are perhaps the model's.
        parser: of the command.

    Raises:
        UserError: one of them is missing or out of place.
    """
    arguments: list[str] = options.arguments
    if options.ops is not None:
        if options.before is not None or options.after is not None:
            raise UserError("--ops works without a model.", "With a model, use --before and --after alone.")
        if unfit := [option for name, option in _OF_MODELS.items() if getattr(options, name) is not None]:
            raise UserError(f"{unfit[0]} is for models.", "With --ops, leave it out.")
        if given:
            name = f"--{next(iter(given))}"
            hint = did_you_mean(name, option_names(parser)) or "Options of models cannot be used with --ops."
            raise UserError(f"aigc edit does not know {name!r}.", hint)
        if not arguments:
            raise UserError("No pictures are given.", "Write: aigc edit --ops OPERATIONS IMAGE...")
        if _is_model(arguments[0]):
            raise UserError(
                f"--ops works without a model, and {arguments[0]} is one.", "With a model, use --before or --after."
            )
        return None, arguments
    if not arguments:
        raise UserError("No model and no pictures are given.", "See: aigc edit --help")
    if Path(arguments[0]).is_file() and not _is_model(arguments[0]):
        raise UserError(
            f"{arguments[0]} stands where a run or checkpoint is named.",
            "Write: aigc edit RUN_OR_CKPT IMAGE..., or --ops OPERATIONS for editing without a model.",
        )
    if len(arguments) == 1:
        raise UserError("No pictures are given.", f"Write: {command('aigc', 'edit', Path(arguments[0]))} IMAGE...")
    return arguments[0], arguments[1:]


def _is_model(argument: str) -> bool:
    path = Path(argument)
    if path.suffix in (".ckpt", ".safetensors") or (path / "checkpoints").is_dir():
        return True
    return path.is_file() and any(plugin.name == path.suffix.lower() for plugin in plugins.plugins("editor"))
