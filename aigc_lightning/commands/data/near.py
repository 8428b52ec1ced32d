"""Near duplicates in data, by the embeddings of a model: mirrored and cropped images are found as well."""

from collections.abc import Iterator, Sequence
from typing import Any

from aigc_lightning.core.io.counting import counting
from aigc_lightning.data.base import ImageDataModule, to_uint8
from aigc_lightning.data.decode import CorruptImageError
from aigc_lightning.data.inspection.inspect import chosen, clean, sources
from aigc_lightning.data.unreadable import collected
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractors import find_extractor
from aigc_lightning.inference.retrieval.duplicates import duplicates
from aigc_lightning.inference.retrieval.index import Entry, ImageIndex
from aigc_lightning.inference.retrieval.indexing import Item, embedded

_AT_ONCE = 64


def near_duplicates(
    data: ImageDataModule, num: int, embedder: str, known: Sequence[Sequence[str]] = ()
) -> dict[str, Any]:
    """Return near duplicates within and across the parts of data, as plain values.

    Args:
        data: single images.
        num: number of images per part to look at.
        embedder: name of an extractor, or a run.
        known: groups of equal images, which are not listed again; an image is "part/name".

    Returns:
        "near" (two images, the variant of the first that is like the second, their distance), those across parts first;
        "near_over_parts", how many are across parts; "near_threshold", the distance below which pairs are listed.

    Raises:
        UserError: the data are no single images, there are too few, or the embedder cannot be used.
    """
    data = clean(data)
    if data.spec.task != "generation":
        raise UserError(f"The data are {data.spec.task} images.", "Leave --embedder out: it compares single images.")
    extractor = find_extractor(embedder)
    entries: dict[str, Entry] = {}
    numbers = {part: chosen(len(source), num) for part, source in sources(data).items()}
    total = sum(map(len, numbers.values()))
    with counting("Embedding") as watch:
        for block in _blocks(data, numbers):
            entries |= embedded(extractor, [(item, item.read()) for item in block])
            watch(len(entries), total)
    index = ImageIndex(extractor.fingerprint, embedder, "data", entries, complete=True)
    with counting("Comparing") as watch:
        found = duplicates(extractor, list(entries.items()), index, within=True, watch=watch)
    groups = [set(group) for group in known]
    pairs = [pair for pair in found.pairs if not any({pair.query, pair.found} <= group for group in groups)]
    over = [_part(pair.query) != _part(pair.found) for pair in pairs]
    order = sorted(range(len(pairs)), key=lambda place: not over[place])
    listed = [[pairs[i].query, pairs[i].found, pairs[i].variant, pairs[i].distance] for i in order]
    return {"near": listed, "near_over_parts": sum(over), "near_threshold": found.threshold}


def _blocks(data: ImageDataModule, numbers: dict[str, list[int]]) -> Iterator[list[Item]]:
    """Yield the images of all parts in blocks, without those that cannot be read."""
    for part, source in sources(data).items():
        samples = data.samples(source)
        for start in range(0, len(numbers[part]), _AT_ONCE):
            block = []
            for number in numbers[part][start : start + _AT_ONCE]:
                try:
                    with collected() as lost:
                        image = to_uint8(samples.read([number])["image"])[0]
                except CorruptImageError:
                    continue
                if lost or (hasattr(source, "problem") and source.problem(number)):
                    continue
                name = source.name(number) if hasattr(source, "name") else str(number)
                block.append(Item(name if name.startswith(f"{part}/") else f"{part}/{name}", "", image.clone))
            if block:
                yield block


def _part(name: str) -> str:
    return name.split("/")[0]
