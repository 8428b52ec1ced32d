"""`aigc sample`: generate pictures from seeds and prompts."""

from pathlib import Path

from aigc_lightning.config.command_line import MODEL_OPTIONS, command_parser, parse, seed_list, split_model_options
from aigc_lightning.config.prompts import read_prompts
from aigc_lightning.config.signing import add_sign_option, signing_keys
from aigc_lightning.core.io.output import echo


def sample(argv: list[str]) -> int:
    """Generate pictures with a trained model, one per seed, of a class or from prompts."""
    parser = command_parser(
        "aigc sample",
        sample.__doc__,
        "aigc sample runs/dcgan_digits/1 --seeds 0-15 --grid",
        "aigc sample runs/cgan_digits/1 --seeds 7 --class 3 --out threes",
        "aigc sample model.safetensors --seeds 0-99 --steps 18",
        note=MODEL_OPTIONS,
    )
    parser.add_argument("checkpoint", help="a run folder, a .ckpt or an exported .safetensors file")
    parser.add_argument("--seeds", default="0-15", help="such as 0-15 or 3,7,20-29 (default: 0-15)")
    parser.add_argument("--out", type=Path, default=Path("samples"), help="folder of the pictures (default: samples)")
    parser.add_argument("--grid", action="store_true", help="also write grid.png, in the order of the seeds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument("--class", dest="class_name", help="class of the pictures, for class-conditional models")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        help="what the pictures show, for models that take prompts; several are each drawn with every seed",
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="a text file with a prompt in each line")
    add_sign_option(parser)
    given, own = split_model_options(parser, argv)
    options = parse(parser, own)
    seeds = seed_list(options.seeds)
    prompts = read_prompts(options.prompt, options.prompts)

    from aigc_lightning.inference.sample import (
        write_samples,
    )  # imports torch: only after the options have been validated
    from aigc_lightning.inference.trust.signer import PictureSigner
    from aigc_lightning.inference.trust.watermark import PictureMarker

    marker = None if options.watermark is None else PictureMarker(options.watermark, options.device)
    keys = signing_keys(options.sign)
    signer = None if keys is None else PictureSigner(keys)
    paths = write_samples(
        options.checkpoint,
        seeds,
        options.out,
        with_grid=options.grid,
        device=options.device,
        class_name=options.class_name,
        prompts=prompts,
        given=given,
        signer=signer,
        marker=marker,
    )
    names = " to ".join(dict.fromkeys((paths[0].name, paths[-1].name)))
    echo(f"{len(paths)} picture{'s' if len(paths) > 1 else ''} in {options.out}: {names}")
    if options.grid:
        echo(f"Grid: {options.out / 'grid.png'}")
    return 1 if (signer and signer.failed) or (marker and marker.failed) else 0
