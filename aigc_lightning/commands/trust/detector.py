"""`aigc trust detector`: a classifier that tells generated pictures from real ones."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from aigc_lightning.config.command_line import command_parser, parse, split_data_options
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

if TYPE_CHECKING:
    from aigc_lightning.data.base import ImageDataModule
    from aigc_lightning.inference.trust.detection import Row

_ABOUT = """Train a classifier that tells generated pictures from real ones, and say how well it does.

Pictures of both kinds are saved alike, as JPEG of the same qualities, once or several times, so that the files give
nothing away. It is tested on held-out pictures of the generators that it knows (--generated), on those of others
(--unseen), and on real pictures that are saved once more, which it must not take for generated ones."""
_RECEIPT = "detector.json"


def main(argv: list[str]) -> int:
    """Train a detector of generated pictures and report how well it tells them apart."""
    own, others = split_data_options(argv)
    options = parse(_parser(), others)
    out = options.out.expanduser()
    pictures = out.with_name(f"{out.name}_pictures")
    for path in (out, pictures):
        if path.exists():
            raise UserError(f"{path} exists already.", "Choose another --out.")
    for name in ("num", "steps"):
        if getattr(options, name) < 32:
            raise UserError(f"--{name} is {getattr(options, name)}.", "Give at least 32.")

    from aigc_lightning.config.request import read_request
    from aigc_lightning.core.io.counting import counting
    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.inference.loaded_model import LoadedModel
    from aigc_lightning.inference.trust.detection import generated_pictures, real_pictures, rows, write_pictures
    from aigc_lightning.training.cli import run

    with quiet_console():
        real, spec = real_pictures(_source(options.real, own), options.num)
        numbers = len(real.training) // len(options.generated), len(real.held_out)
        seen = [generated_pictures(target, spec, *numbers, options.device) for target in options.generated]
        unseen = [generated_pictures(target, spec, 0, numbers[1], options.device) for target in options.unseen]
        with counting("Saving alike") as watch:
            write_pictures(real, seen, spec, pictures, watch)
    run("fit", read_request("fit", _training(options, pictures, spec.channels, (spec.height, spec.width))))
    with quiet_console(), counting("Testing") as watch:
        found = rows(LoadedModel(out, options.device), real, seen, unseen, spec, watch)
    _report(found, out, spec.shape, (len(real.training), len(real.held_out)), as_json=options.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "aigc trust detector",
        _ABOUT,
        "aigc trust detector --real digits --generated runs/dcgan_digits/1 --unseen runs/vae_digits/1",
        "aigc trust detector --real photographs --generated samples --out runs/detector",
        note="Options of the real data follow, such as --data.size 64.",
    )
    parser.add_argument("--real", required=True, metavar="DATA", help="a folder of pictures, or the name of data")
    parser.add_argument(
        "--generated",
        required=True,
        nargs="+",
        metavar="RUN_OR_FOLDER",
        help="generators to learn: runs, checkpoints, or folders of their pictures, of the size of the real ones",
    )
    parser.add_argument(
        "--unseen", nargs="+", default=[], metavar="RUN_OR_FOLDER", help="generators to test it on that it never saw"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/detector"),
        help="the run; its pictures go to OUT_pictures (default: runs/detector)",
    )
    parser.add_argument("--num", type=int, default=2000, help="real pictures to train on (default: up to 2000)")
    parser.add_argument("--steps", type=int, default=500, help="steps of training (default: 500)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    return parser


def _source(real: str, own: list[str]) -> "Path | ImageDataModule":
    folder = Path(real).expanduser()
    if folder.is_dir():
        if own:
            raise UserError(f"{own[0]} does not apply to a folder.", "Leave it out, or use --real image_folder.")
        return folder

    from aigc_lightning.config.data import chosen_data

    data = chosen_data([f"--data={real}", *own])
    data.prepare_data()
    return data


def _training(options: argparse.Namespace, pictures: Path, channels: int, size: tuple[int, int]) -> list[str]:
    """Return the options of `aigc fit`: those of the preset cnn_digits, with the pictures as data."""
    return [
        "--model=cnn",
        f"--model.schedule_steps={options.steps}",
        "--data=image_folder",
        f"--data.root={pictures.resolve()}",
        f"--data.size=[{size[0]},{size[1]}]",
        f"--data.channels={channels}",
        "--data.balanced=true",
        f"--trainer.max_steps={options.steps}",
        "--trainer.check_val_every_n_epoch=null",
        f"--trainer.val_check_interval={options.steps}",
        f"--trainer.accelerator={options.device.partition(':')[0]}",
        "--checkpoints.monitor=null",  # held-out pictures are there for the test alone
        f"--run={options.out.expanduser()}",
    ]


def _report(rows: "list[Row]", out: Path, shape: tuple[int, ...], numbers: tuple[int, int], *, as_json: bool) -> None:
    """Write the receipt and print the table."""
    from aigc_lightning.evaluation.receipt import Receipt, Section

    classes = {f"{row.name}, {row.kind}": row.found._asdict() for row in rows}
    protocol = {"shape": list(shape), "training": numbers[0], "held_out": numbers[1], "false_alarms": 0.01}
    Receipt(str(out), [Section("detection", {}, protocol, classes=classes)]).save(out / _RECEIPT)
    if as_json:
        echo(json.dumps([{"name": row.name, "kind": row.kind, **row.found._asdict()} for row in rows]))
        return
    width = max(len(row.name) for row in rows)
    echo("", f"{'':{width}}            AUC    95 % interval  found at 1 % false alarms")
    for name, kind, found in rows:
        echo(
            f"{name:{width}}  {kind:8}  {found.auc:.3f}  {found.low:.3f}-{found.high:.3f}    {found.true_positives:.1%}"
        )
    echo("", f"Run: {out}, receipt: {out / _RECEIPT}", f"Next: {command('aigc', 'evaluate', out)}")
