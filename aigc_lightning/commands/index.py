"""`aigc index`: embed images so that they can be searched."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_lightning.config.command_line import command_parser, parse, split_data_options
from aigc_lightning.core.io.counting import counting
from aigc_lightning.core.io.escape import shown
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

if TYPE_CHECKING:
    from aigc_lightning.evaluation.extractor import Extractor
    from aigc_lightning.inference.retrieval.indexing import Source

_SHOWN = 3


def index(argv: list[str]) -> int:
    """Embed images with a model, or update an index, for `aigc search`."""
    parser = command_parser(
        "aigc index",
        index.__doc__,
        "aigc index runs/metric_digits/1 photographs --out photos.index",
        "aigc index dinov2 digits --part val --out digits.index",
        note="Repeat the command to continue after an interruption, or to update the index: only new and changed "
        "images are embedded. --data.OPTION V sets an option of the data.",
    )
    parser.add_argument(
        "embedder",
        metavar="RUN_OR_EXTRACTOR",
        help="a run that embeds, inception, dinov2, clip or efficientnet_lite0",
    )
    parser.add_argument("source", metavar="SRC", help="a folder of images, or a name, preset or config file of data")
    parser.add_argument("--out", type=Path, required=True, metavar="INDEX", help="file to create or update")
    parser.add_argument("--part", choices=("train", "val", "test"), help="part of the data (default: train)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    own, others = split_data_options(argv)
    options = parse(parser, others)

    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.evaluation.extractors import find_extractor
    from aigc_lightning.inference.loaded_model import chosen_device
    from aigc_lightning.inference.retrieval.indexing import update

    out = options.out.expanduser()
    with quiet_console():
        extractor = find_extractor(options.embedder).to(chosen_device(options.device))
        source = _source(options, own, extractor)
        with counting("Embedding") as watch:
            changes = update(out, extractor, _address(options.embedder), source, watch)
    if changes.unreadable:
        some = ", ".join(map(shown, changes.unreadable[:_SHOWN]))
        more = f" and {len(changes.unreadable) - _SHOWN} more" if len(changes.unreadable) > _SHOWN else ""
        echo(f"Left out, since they cannot be read: {some}{more}.", error=True)
    total = counted(len(changes.result.entries), "image")
    echo(f"{total} in {out}: {changes.embedded} embedded now, {changes.removed} removed.")
    echo(f"Next: {command('aigc', 'search', out, 'PICTURE')}")
    return 0


def _source(options: argparse.Namespace, own: list[str], extractor: "Extractor") -> "Source":
    from aigc_lightning.config.data import chosen_data
    from aigc_lightning.core.io.redaction import redacted_text
    from aigc_lightning.evaluation.image_sets import DataImages
    from aigc_lightning.inference.retrieval.indexing import DataSource, FolderSource

    folder = Path(options.source).expanduser()
    if folder.is_dir():
        if own or options.part:
            what = f"{own[0] if own else '--part'} does not apply to a folder, whose images are all indexed."
            raise UserError(what, "Leave it out, or give the data image_folder with --data.root.")
        return FolderSource(folder, max(3, extractor.shape[0]))
    words = [f"--data={options.source}", *own]
    data = chosen_data(words)
    data.prepare_data()
    if data.spec.task != "generation":
        raise UserError(f"The data are {data.spec.task} images.", "Index single images.")
    return DataSource(redacted_text(" ".join(words)), DataImages(data, options.part or "train"))


def _address(embedder: str) -> str:
    """Return where searches find the embedder, from whatever folder they are started."""
    return str(Path(embedder).resolve()) if Path(embedder).exists() else embedder
