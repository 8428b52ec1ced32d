"""`aigc search`: find images in an index."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aigc_lightning.commands.listings import print_rows
from aigc_lightning.config.command_line import command_parser, parse, seed_list
from aigc_lightning.core.io.counting import counting
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aigc_lightning.evaluation.extractor import Extractor
    from aigc_lightning.inference.retrieval.index import Entry, ImageIndex
    from aigc_lightning.inference.retrieval.sheets import Cell

_IMAGES = 20  # images that are found by default
_COLUMNS, _PAIR_COLUMNS = 7, 6  # cells in a row of a sheet
_PAIRS = 300  # pairs in a sheet or page at most


def search(argv: list[str]) -> int:
    """Find the images of an index that are most similar to a picture, a sample or a text, or near duplicates."""
    parser = command_parser(
        "aigc search",
        search.__doc__,
        "aigc search photos.index cat.jpg --out page.html",
        "aigc search photos.index --seed 7 --of runs/dcgan_digits/1",
        "aigc search photos.index --duplicates --json",
    )
    parser.add_argument("index", metavar="INDEX", type=Path, help="a file that aigc index made")
    parser.add_argument("picture", metavar="PICTURE", type=Path, nargs="?", help="the picture to search for")
    parser.add_argument("--seed", type=int, help="search for the sample of this seed, by the model of --of")
    parser.add_argument("--of", metavar="RUN", help="run or checkpoint of the model that makes the sample")
    parser.add_argument("--prompt", help="search for a text, with an embedder of texts")
    parser.add_argument("--embedder", metavar="RUN_OR_EXTRACTOR", help="the index's embedder, if it has moved")
    parser.add_argument("--duplicates", action="store_true", help="list near duplicates in the index instead")
    parser.add_argument("--against", type=Path, metavar="INDEX", help="list duplicates of INDEX's images in this one")
    parser.add_argument("--seeds", help="list duplicates of samples, such as 0-99, of the model of --of")
    parser.add_argument("--num", type=int, help="most results (default: 20 images, all duplicates)")
    parser.add_argument("--out", type=Path, help="also write a contact sheet (.png) or a page (.html)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    options = parse(parser, argv)
    _check(options)

    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.evaluation.extractors import find_extractor
    from aigc_lightning.inference.loaded_model import chosen_device
    from aigc_lightning.inference.retrieval.index import load_complete
    from aigc_lightning.inference.retrieval.search import check_extractor
    from aigc_lightning.inference.retrieval.sheets import check_result, write_results

    if options.out is not None:
        check_result(options.out)
    index = load_complete(options.index.expanduser())
    with quiet_console():
        extractor = find_extractor(options.embedder or _local(index)).to(chosen_device(options.device))
        check_extractor(index, extractor)
        found = (_duplicates if options.duplicates else _similar)(options, index, extractor)
    if found.rows or options.json:
        print_rows(found.rows, as_json=options.json, titles=True)
    if found.remarks:
        echo(*found.remarks, error=options.json)
    if options.out is not None and found.cells:
        write_results(options.out, found.title, found.cells, found.columns)
        echo(f"Written: {options.out}", error=options.json)
    return 0


def _local(index: "ImageIndex") -> str:
    """Return the embedder that an index names; the index may come from a stranger, who cannot name a server.

    Raises:
        UserError: it names an address.
    """
    from aigc_lightning.core.io.download import is_address

    if is_address(index.address):
        what = f"The index was made with {index.address}, which a file cannot make a search contact."
        raise UserError(what, "Give --embedder ADDRESS if you know it.")
    return index.address


class _Found(NamedTuple):
    title: str
    rows: list[dict[str, str]]
    cells: "list[Cell]"
    columns: int
    remarks: list[str]


class _Query(NamedTuple):
    name: str
    vector: "Tensor"
    picture: bytes | None  # None of a text


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        UserError: there is no query, more than one, or a number is out of range.
    """
    queries = [query for query in (options.picture, options.seed, options.prompt) if query is not None]
    if (options.num is not None and options.num < 1) or (options.seed is not None and options.seed < 0):
        raise UserError("--num must be at least 1, and --seed at least 0.", "Give other numbers.")
    if options.duplicates:
        if queries:
            raise UserError("--duplicates looks at all images, so it takes no query.", "Leave one of them out.")
        if (options.seeds is None) != (options.of is None):
            raise UserError("With --duplicates, --seeds and --of go together.", "Give both: --of RUN --seeds 0-99")
        if options.seeds and options.against:
            raise UserError("--against and --seeds are both given.", "Compare an index with one of them.")
        return
    if options.against or options.seeds:
        raise UserError("--against and --seeds are options of --duplicates.", "Add --duplicates, or leave them out.")
    if len(queries) != 1:
        what = "There is nothing to search for." if not queries else "More than one query is given."
        raise UserError(what, "Give a PICTURE, --seed N --of RUN, or --prompt TEXT.")
    if (options.seed is None) != (options.of is None):
        raise UserError("--seed and --of go together.", "Give both: --seed N --of RUN")


def _similar(options: argparse.Namespace, index: "ImageIndex", extractor: "Extractor") -> _Found:
    """Return the images that are most similar to the query."""
    from aigc_lightning.inference.retrieval.search import search as most_similar
    from aigc_lightning.inference.retrieval.sheets import Cell

    query = _query(options, extractor)
    hits = most_similar(index, query.vector, options.num or _IMAGES)
    rows = [{"name": hit.name, "similarity": f"{hit.similarity:.4f}"} for hit in hits]
    cells = [] if query.picture is None else [Cell(query.picture, query.name, "query")]
    cells += [Cell(index.entries[row["name"]].picture, row["name"], row["similarity"]) for row in rows]
    return _Found(f"Most similar to {query.name}", rows, cells, _COLUMNS, [])


def _duplicates(options: argparse.Namespace, index: "ImageIndex", extractor: "Extractor") -> _Found:
    """Return near duplicates, a row of two cells each."""
    from aigc_lightning.inference.retrieval.duplicates import FALSE_ALARMS, duplicates
    from aigc_lightning.inference.retrieval.index import load_complete
    from aigc_lightning.inference.retrieval.search import check_extractor
    from aigc_lightning.inference.retrieval.sheets import Cell

    queries, target = index.entries, index
    if options.against is not None:
        target = load_complete(options.against.expanduser())
        check_extractor(target, extractor)
    elif options.seeds is not None:
        queries = _samples(options, extractor)
    with counting("Comparing") as watch:
        found = duplicates(extractor, list(queries.items()), target, within=queries is target.entries, watch=watch)
    shown = found.pairs[: options.num]
    rows, cells = [], []
    for pair in shown:
        row = {
            "image": pair.query,
            "variant": pair.variant,
            "duplicate": pair.found,
            "distance": f"{pair.distance:.4f}",
        }
        rows.append(row)
        cells.append(Cell(queries[pair.query].picture, pair.query, pair.variant))
        cells.append(Cell(target.entries[pair.found].picture, pair.found, row["distance"]))
    left_out = f", of which {len(shown)} are listed" if len(shown) < len(found.pairs) else ""
    remarks = [
        f"{counted(len(found.pairs), 'near duplicate')}{left_out}: pairs of normalised embeddings closer than "
        f"{found.threshold:.4f}.",
        f"So close come about {FALSE_ALARMS:.1%} of the different images of the index, by their nearest distances.",
    ]
    if options.out is not None and len(shown) > _PAIRS:
        remarks.append(f"The first {_PAIRS} are in {options.out}.")
    return _Found("Near duplicates", rows, cells[: 2 * _PAIRS], _PAIR_COLUMNS, remarks)


def _samples(options: argparse.Namespace, extractor: "Extractor") -> "dict[str, Entry]":
    """Return entries of the samples of --of and --seeds."""
    from aigc_lightning.core.io.pictures import to_uint8
    from aigc_lightning.inference.loaded_model import LoadedModel
    from aigc_lightning.inference.retrieval.index import Entry, small_picture
    from aigc_lightning.inference.retrieval.indexing import embed, picture_side

    seeds = seed_list(options.seeds)
    images = list(to_uint8(LoadedModel(options.of, options.device).sample(seeds)).cpu())
    vectors, side = embed(extractor, images), picture_side(extractor)
    return {
        f"seed {seed}": Entry("", vector, small_picture(image, side))
        for seed, image, vector in zip(seeds, images, vectors, strict=True)
    }


def _query(options: argparse.Namespace, extractor: "Extractor") -> _Query:
    """Return the embedding of what is searched for.

    Raises:
        UserError: it cannot be read, made or embedded.
    """
    from aigc_lightning.core.io.pictures import to_uint8
    from aigc_lightning.data.decode import CorruptImageError, decode
    from aigc_lightning.inference.loaded_model import LoadedModel
    from aigc_lightning.inference.retrieval.index import small_picture
    from aigc_lightning.inference.retrieval.indexing import embed, picture_side
    from aigc_lightning.inference.retrieval.search import embedded_text

    if options.prompt is not None:
        return _Query(options.prompt, embedded_text(extractor, options.prompt), None)
    if options.seed is not None:
        image = to_uint8(LoadedModel(options.of, options.device).sample([options.seed]))[0].cpu()
        name = f"seed {options.seed}"
    else:
        try:
            image, name = decode(options.picture, max(3, extractor.shape[0])), options.picture.name
        except CorruptImageError as error:
            raise UserError(f"{options.picture} cannot be read: {error.reason}.", "Give another picture.") from error
    return _Query(name, embed(extractor, [image])[0], small_picture(image, picture_side(extractor)))
