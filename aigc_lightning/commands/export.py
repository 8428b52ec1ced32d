"""`aigc export`: weights to hand to others."""

import argparse
from pathlib import Path

from aigc_lightning.config.command_line import parse
from aigc_lightning.core.io.output import echo


def export(argv: list[str]) -> int:
    """Write a run's weights as one .safetensors file, for `aigc sample` anywhere."""
    parser = argparse.ArgumentParser("aigc export", description=export.__doc__, exit_on_error=False)
    parser.add_argument("checkpoint", help="a run folder or a .ckpt file")
    parser.add_argument("--out", type=Path, default=Path("model.safetensors"), help="(default: model.safetensors)")
    options = parse(parser, argv)

    from aigc_lightning.core.checkpoint import file_hash, load_model, save_weights
    from aigc_lightning.core.run.folder import find_checkpoint
    from aigc_lightning.training.next_step import sampling

    path = find_checkpoint(options.checkpoint)
    out = (
        options.out
        if options.out.suffix == ".safetensors"
        else options.out.with_name(options.out.name + ".safetensors")
    )
    model = load_model(path)
    save_weights(model, out, {"checkpoint": path.name, "sha256": file_hash(path)})
    echo(f"{out} ({out.stat().st_size / 2**20:.1f} MiB).")
    following = sampling(model, out)
    if following:
        echo(f"Next: {following}")
    return 0
