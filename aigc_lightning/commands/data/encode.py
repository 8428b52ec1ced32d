"""`aigc data encode`: encode a dataset once with the first stage of another model."""

from pathlib import Path
from typing import TYPE_CHECKING

from aigc_lightning.config.command_line import command_parser, parse, split_data_options
from aigc_lightning.core.io.counting import counting
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted
from aigc_lightning.shell import command

if TYPE_CHECKING:
    from aigc_lightning.core.spec import ImageSpec


def main(argv: list[str]) -> int:
    """Encode images with a trained autoencoder or tokenizer, for `--data encoded_images --data.root DST`."""
    parser = command_parser(
        "aigc data encode",
        main.__doc__,
        "aigc data encode runs/vae_digits/1 photographs latents",
        note="After an interruption the same command continues. --data.OPTION V sets an option of the data. "
        "An autoencoder or vae gives latents, a tokenizer tokens. Held-out images are kept as they are, for scores.",
    )
    parser.add_argument("run", metavar="RUN", help="run, checkpoint or address of an autoencoder, vae or tokenizer")
    parser.add_argument("source", metavar="SRC", help="a folder of images, or a name, preset or config file of data")
    parser.add_argument("target", metavar="DST", type=Path, help="folder to create or complete")
    parser.add_argument("--device", default="cpu", help="where to encode, such as cuda (default: cpu)")
    parser.add_argument(
        "--latents", action="store_true", help="latents of a tokenizer too, for latent diffusion, instead of its tokens"
    )
    own, others = split_data_options(argv)
    options = parse(parser, others)

    from aigc_lightning.config.data import chosen_data
    from aigc_lightning.core.component import load_component
    from aigc_lightning.core.io.redaction import redacted_text
    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.data.latents.encoding import encode_data
    from aigc_lightning.data.unreadable import named
    from aigc_lightning.inference.loaded_model import chosen_device

    target, device = options.target.expanduser(), chosen_device(options.device)
    with quiet_console():
        component = load_component(options.run)
        component.model.to(device)
        data_options = [*_named(options.source, component.model.spec, own), *own]
        data = chosen_data(data_options)
        data.prepare_data()
        with counting("Encoding") as watch:
            source = redacted_text(" ".join(data_options))
            encoded, lost = encode_data(component, data, source, target, latents=options.latents, watch=watch)
    if lost:
        errors = [item.error for item in lost]
        echo(f"Unreadable images were replaced by others: {named(lost[0].budget.root, errors)}.", error=True)
    train, val = (encoded.counts[part] for part in ("train", "val"))
    echo(f"{counted(train, 'image')} encoded and {counted(val, 'held-out image')} kept in {target}.")
    data_words = ("--data", "encoded_images", "--data.root", target)
    if encoded.kind == "latent":
        stage = ("--model.first_stage", options.run)
        echo(f"Next: {command('aigc', 'fit', '--model', 'diffusion', *stage, *data_words)}")
    else:
        echo(f"Next: `aigc fit` with {command('--model.tokenizer', options.run, *data_words)}")
    return 0


def _named(source: str, spec: "ImageSpec", own: list[str]) -> list[str]:
    """Return the options that name the data: a folder's images, as the model takes them, or what has this name."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return [f"--data={source}"]
    given = {option.partition("=")[0] for option in own}
    taken = {
        "--data.root": str(folder.resolve()),
        "--data.size": str(spec.height) if spec.height == spec.width else f"[{spec.height},{spec.width}]",
        "--data.channels": str(spec.channels),
    }
    return ["--data=image_folder", *(f"{name}={value}" for name, value in taken.items() if name not in given)]
