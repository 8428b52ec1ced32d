"""`aigc search`: find images in an index."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aigc_lightning.commands.listings import print_rows
from aigc_lightning.config.command_line import parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from aigc_lightning.evaluation.extractor import Extractor

_COLUMNS = 7


def search(argv: list[str]) -> int:
    """Find the images of an index that are most similar to a picture, a sample or a text."""
    parser = argparse.ArgumentParser("aigc search", description=search.__doc__, exit_on_error=False)
    parser.add_argument("index", metavar="INDEX", type=Path, help="a file that aigc index made")
    parser.add_argument("picture", metavar="PICTURE", type=Path, nargs="?", help="the picture to search for")
    parser.add_argument("--seed", type=int, help="search for the sample of this seed, by the model of --of")
    parser.add_argument("--of", metavar="RUN", help="run or checkpoint of the model that makes the sample")
    parser.add_argument("--prompt", help="search for a text, with an embedder of texts")
    parser.add_argument("--embedder", metavar="RUN_OR_EXTRACTOR", help="the index's embedder, if it has moved")
    parser.add_argument("--num", type=int, default=20, help="images to find (default: 20)")
    parser.add_argument("--out", type=Path, help="also write a contact sheet (.png) or a page (.html)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps (default: cpu)")
    options = parse(parser, argv)
    _check(options)

    from aigc_lightning.core.run.quiet import quiet_console
    from aigc_lightning.evaluation.extractors import find_extractor
    from aigc_lightning.inference.loaded_model import chosen_device
    from aigc_lightning.inference.retrieval import search as searching
    from aigc_lightning.inference.retrieval.index import load_complete
    from aigc_lightning.inference.retrieval.sheets import Cell, check_result, write_results

    if options.out is not None:
        check_result(options.out)
    index = load_complete(options.index.expanduser())
    with quiet_console():
        extractor = find_extractor(options.embedder or index.address).to(chosen_device(options.device))
        searching.check_extractor(index, extractor)
        query = _query(options, extractor)
    hits = searching.search(index, query.vector, options.num)
    rows = [{"name": hit.name, "similarity": f"{hit.similarity:.4f}"} for hit in hits]
    print_rows(rows, as_json=options.json, titles=True)
    if options.out is not None:
        cells = [Cell(index.entries[hit.name].picture, hit.name, f"{hit.similarity:.4f}") for hit in hits]
        first = [] if query.picture is None else [Cell(query.picture, query.name, "query")]
        write_results(options.out, f"Most similar to {query.name}", first + cells, _COLUMNS)
        if not options.json:
            echo(f"Written: {options.out}")
    return 0


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
    if len(queries) != 1:
        what = "There is nothing to search for." if not queries else "More than one query is given."
        raise UserError(what, "Give a PICTURE, --seed N --of RUN, or --prompt TEXT.")
    if (options.seed is None) != (options.of is None):
        raise UserError("--seed and --of go together.", "Give both: --seed N --of RUN")
    if options.num < 1 or (options.seed is not None and options.seed < 0):
        raise UserError("--num must be at least 1, and --seed at least 0.", "Give other numbers.")


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
