"""`aigc data shard`: write a folder of images as tar shards, or index existing shards."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

if TYPE_CHECKING:
    from aigc_lightning.data.decode import CorruptImageError
    from aigc_lightning.data.folders.listing import Listing

_MOST_BYTES = 1e9  # maximum size of a shard
_AT_ONCE = 64  # files read ahead
_SHOWN = 5


def main(argv: list[str]) -> int:
    """Write a folder of images as tar shards for `--data shards`: aigc data shard SRC DST."""
    parser = command_parser(
        "aigc data shard",
        main.__doc__,
        "aigc data shard photographs shards --samples 5000",
        "aigc data shard --index shards",
    )
    parser.add_argument("source", metavar="SRC", nargs="?", help="folder of images, as `--data image_folder` takes it")
    parser.add_argument("target", metavar="DST", nargs="?", help="new folder for the shards")
    parser.add_argument("--samples", type=int, default=10_000, help="maximum number per shard (default: 10000)")
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the images to hold out (default: 0.1)")
    parser.add_argument("--classes", choices=("auto", "folders", "none"), default="auto", help="as for image_folder")
    parser.add_argument("--max-bad", type=float, default=0.01, help="share of files that may be bad (default: 0.01)")
    parser.add_argument("--index", metavar="FOLDER", help="only index the existing shards of a folder")
    options = parse(parser, argv)
    if options.index is not None:
        return _index(Path(options.index))
    if options.target is None:
        raise UserError("aigc data shard needs two folders.", "Write: aigc data shard SRC DST")
    if options.samples < 1:
        raise UserError(f"--samples is {options.samples}.", "Give at least 1.")
    for name in ("val_share", "max_bad"):
        if not 0 <= getattr(options, name) <= 1:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(options, name)}.", "Give a share from 0 to 1.")
    return _write(Path(options.source).expanduser(), Path(options.target).expanduser(), options)


def _write(source: Path, target: Path, options: argparse.Namespace) -> int:
    from aigc_lightning.data.folders.listing import (
        list_images,
    )  # imports torch: only after the options have been validated
    from aigc_lightning.data.shards.index import INDEX_FILE, build_index, write_index

    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty.", "Give a new folder.")
    listing = list_images(source, options.val_share, options.classes)
    target.mkdir(parents=True, exist_ok=True)
    bad = _write_parts(listing, target, options.samples, options.max_bad)
    for error in bad[:_SHOWN]:
        echo(f"Left out {error.path}: {error.reason}.")
    if len(bad) > _SHOWN:
        echo(f"Left out {len(bad) - _SHOWN} more.")
    built = build_index(target, listing.class_names)
    if built.bad:
        raise built.bad[0]
    index, table = built.index, built.table
    write_index(target, index, table)
    size = sum(shard.size for shard in index.shards)
    counts = {part: sum(s.count for s in index.shards if s.part == part) for part in listing.parts}
    echo(f"Wrote {len(index.shards)} shards of {len(table):,} images ({_bytes(size)}) and {INDEX_FILE} to {target}:")
    echo(f"  {', '.join(f'{count:,} {part}' for part, count in counts.items())}")
    echo(f"Next: {command('aigc', 'fit', '--model', 'dcgan', '--data', 'shards', '--data.root', target)}")
    return 0


def _write_parts(listing: "Listing", target: Path, samples: int, max_bad: float) -> "list[CorruptImageError]":
    """Write the shards of all parts, each in a fixed random order; return the files left out.

    Raises:
        UserError: too many files are bad.
    """
    from webdataset import ShardWriter

    from aigc_lightning.core import keyed
    from aigc_lightning.data.decode import CorruptImageError

    total = len(listing)
    bad: list[CorruptImageError] = []
    with _bar(total) as advance:
        for part, names in listing.parts.items():
            # Shards are read one after another, so each has to be a random sample of the whole.
            order = keyed.permutation(len(names), 0).tolist()
            mixed = [names[number] for number in order]
            labels = None if listing.labels is None else listing.labels[part][order]
            pattern = str(target / f"{part}-%06d.tar")
            with ShardWriter(pattern, maxcount=samples, maxsize=_MOST_BYTES, verbose=0, encoder=False, mtime=0) as out:
                for number, found in enumerate(_read_ahead([listing.root / name for name in mixed])):
                    advance()
                    if isinstance(found, CorruptImageError):
                        bad.append(found)
                        if len(bad) > max_bad * total:
                            raise UserError(
                                f"{len(bad)} of {total} images cannot be read, more than {int(max_bad * total)}: "
                                f"{found.path} ({found.reason}) is the last.",
                                f"Repair or remove them, or raise --max-bad. {target} does not hold a whole dataset.",
                            )
                        continue
                    sample: dict[str, Any] = {"__key__": f"{number:08d}", _suffix(mixed[number]): found}
                    if labels is not None:
                        sample["cls"] = str(labels[number]).encode()
                    out.write(sample)
    return bad


def _read_ahead(paths: Sequence[Path]) -> "Iterator[bytes | CorruptImageError]":
    """Yield the bytes of image files in order, or their errors; threads read and decode ahead."""
    from aigc_lightning.core.io.atomic import open_regular
    from aigc_lightning.data.decode import CorruptImageError, decode

    def read(path: Path) -> "bytes | CorruptImageError":
        try:
            with open_regular(path) as file:
                content = file.read()
            decode(content)
        except CorruptImageError as error:
            return CorruptImageError(path, error.reason)
        except OSError as error:
            return CorruptImageError(path, (error.strerror or str(error)).lower())
        return content

    with ThreadPoolExecutor() as pool:
        for first in range(0, len(paths), _AT_ONCE):
            yield from pool.map(read, paths[first : first + _AT_ONCE])


def _index(folder: Path) -> int:
    from rich.progress import track

    from aigc_lightning.data.shards.index import build_index, write_index

    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.", "Give the folder that contains the shards.")
    built = build_index(folder, (), lambda names: track(names, "Reading headers", console=_console()))
    write_index(folder, built.index, built.table)
    echo(*built.notes(), f"Indexed {len(built.index.shards)} shards of {len(built.table):,} images in {folder}.")
    return 0


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar during the block; yield a function to call once per image."""
    from rich.progress import Progress

    with Progress(console=_console()) as progress:
        task = progress.add_task("Writing shards", total=total)
        yield lambda: progress.advance(task)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
