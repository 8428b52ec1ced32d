"""`aigc sample`: generate pictures from seeds and prompts."""

import argparse
from pathlib import Path

from aigc_lightning.config.command_line import MODEL_OPTIONS, command_parser, parse, seed_list, split_model_options
from aigc_lightning.config.prompts import read_prompts
from aigc_lightning.config.signing import add_sign_option, signing_keys
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError


def sample(argv: list[str]) -> int:
    """Generate pictures with a trained model, one per seed, of a class or from prompts."""
    parser = _parser()
    given, own = split_model_options(parser, argv)
    options = parse(parser, own)
    seeds = seed_list(options.seeds)
    prompts = read_prompts(options.prompt, options.prompts)

    keys = signing_keys(options.sign)
    archive = options.out.suffix == ".npz"
    if archive and (options.grid or keys):
        what = "--grid makes a picture" if options.grid else "Signatures are for pictures (--sign or AIGC_SIGN)"
        raise UserError(f"{what}, and --out {options.out} is one file.", "Give a folder for --out, or leave it out.")

    # These import torch: only after the options have been validated.
    from aigc_lightning.inference.sample import Wanted, write_samples
    from aigc_lightning.inference.sample_archive import write_archive
    from aigc_lightning.inference.trust.signer import PictureSigner
    from aigc_lightning.inference.trust.watermark import PictureMarker

    marker = None if options.watermark is None else PictureMarker(options.watermark, options.device)
    wanted = Wanted(seeds, options.class_name, prompts, given)
    if archive:
        count = write_archive(options.checkpoint, wanted, options.out, device=options.device, marker=marker)
        echo(f"{count} picture{'s' if count > 1 else ''} in {options.out}: arr_0, uint8, for numpy.load")
        return 1 if marker and marker.failed else 0
    signer = None if keys is None else PictureSigner(keys)
    paths = write_samples(
        options.checkpoint,
        wanted,
        options.out,
        with_grid=options.grid,
        device=options.device,
        signer=signer,
        marker=marker,
    )
    names = " to ".join(dict.fromkeys((paths[0].name, paths[-1].name)))
    echo(f"{len(paths)} picture{'s' if len(paths) > 1 else ''} in {options.out}: {names}")
    if options.grid:
        echo(f"Grid: {options.out / 'grid.png'}")
    return 1 if (signer and signer.failed) or (marker and marker.failed) else 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "aigc sample",
        sample.__doc__,
        "aigc sample runs/dcgan_digits/1 --seeds 0-15 --grid",
        "aigc sample runs/cgan_digits/1 --seeds 7 --class 3 --out threes",
        "aigc sample model.safetensors --seeds 0-9999 --steps 18 --out samples.npz",
        note=MODEL_OPTIONS,
    )
    parser.add_argument("checkpoint", help="a run folder, a .ckpt or an exported .safetensors file")
    parser.add_argument("--seeds", default="0-15", help="such as 0-15 or 3,7,20-29 (default: 0-15)")
    parser.add_argument(
        "--out", type=Path, default=Path("samples"), help="folder of PNG files, or one .npz file (default: samples)"
    )
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
    return parser
