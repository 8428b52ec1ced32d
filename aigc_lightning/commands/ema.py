"""`aigc ema`: a model whose averaged weights have another width."""

from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo


def ema(argv: list[str]) -> int:
    """Write a run's model with moving averages of another width, made from the run's snapshots."""
    parser = command_parser(
        "aigc ema",
        ema.__doc__,
        "aigc ema runs/dcgan_digits/1 --width 0.08 --out digits.safetensors",
        note="Snapshots are saved by `aigc fit --ema.relative_widths 0.05,0.10`.",
    )
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--width", type=float, required=True, help="relative to the length of the training: 0.08")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    options = parse(parser, argv)

    from aigc_lightning.core.checkpoint import save_weights
    from aigc_lightning.errors import UserError
    from aigc_lightning.inference.posthoc_ema import with_width
    from aigc_lightning.training.next_step import sampling

    if options.out.suffix != ".safetensors":
        raise UserError(f"--out is {options.out}.", "Give a name that ends in .safetensors.")
    model, made_from, missing = with_width(options.run, options.width)
    save_weights(model, options.out, made_from)
    echo(f"{options.out}: averages of relative width {options.width:g} at step {made_from['step']:,}.")
    echo(f"Their profile is the wanted one up to {missing:.2g} of its norm.")
    following = sampling(model, options.out)
    if following:
        echo(f"Next: {following}")
    return 0
