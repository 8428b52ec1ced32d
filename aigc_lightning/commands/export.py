"""`aigc export`: the weights of a run as one file."""

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

    from aigc_lightning.core.checkpoint import save_weights
    from aigc_lightning.inference.loaded_model import LoadedModel
    from aigc_lightning.training.next_step import sampling

    loaded = LoadedModel(options.checkpoint)
    out = (
        options.out
        if options.out.suffix == ".safetensors"
        else options.out.with_name(options.out.name + ".safetensors")
    )
    save_weights(loaded.model, out, {"checkpoint": loaded.path.name, "sha256": loaded.digest})
    echo(f"{out} ({out.stat().st_size / 2**20:.1f} MiB).")
    following = sampling(loaded.model, out)
    if following:
        echo(f"Next: {following}")
    return 0
