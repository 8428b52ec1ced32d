"""What `aigc evaluate` costs beside the judge's network: CPU time for features and logits of images in memory.

    python benchmarks/evaluation.py [--num 2048] [--rounds 5]

"Alone" is the network, called on blocks that lie in memory as it takes them; "evaluation" is everything from 8-bit
images: channels, size, network, and what Frechet distance, precision and the scores of classes keep. Rounds take
turns in one process of one thread, and medians are shown. The `cnn` is untrained; EfficientNet-Lite0 needs the extra
`features`. "Contiguous" is the same network with its weights in torch's usual memory format instead of channels last.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from aigc_lightning.core.run.machine import machine_line
from aigc_lightning.core.run.memory import keep_memory
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.evaluation.bank import BLOCK, Labelled, collect
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.evaluation.extractors import ModelExtractor, find_extractor
from aigc_lightning.models.cnn import CNN

CLASSES = tuple("0123456789")
#: Judges, with the shape of the images that they are given and the share of the images that they get.
CASES: dict[str, tuple[Callable[[], Extractor], tuple[int, int, int], float]] = {
    "cnn, 28x28": (lambda: ModelExtractor(CNN(ImageSpec(1, 28, 28, class_names=CLASSES))), (1, 28, 28), 1),
    "cnn, 28x28 from 32x32": (lambda: ModelExtractor(CNN(ImageSpec(1, 28, 28, class_names=CLASSES))), (1, 32, 32), 1),
    "cnn, 64x64": (lambda: ModelExtractor(CNN(ImageSpec(3, 64, 64, class_names=CLASSES))), (3, 64, 64), 0.25),
    "efficientnet_lite0, from 64x64": (lambda: find_extractor("efficientnet_lite0"), (3, 64, 64), 1 / 16),
}


def batches(images: Tensor) -> Iterator[Labelled]:
    """Yield images, their numbers and classes in the blocks in which samples are made."""
    for start in range(0, len(images), BLOCK):
        numbers = torch.arange(start, min(start + BLOCK, len(images)))
        yield images[start : start + BLOCK], numbers, numbers % len(CLASSES)


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of some work."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(extractor: Extractor, images: Tensor, rounds: int) -> list[float]:
    """Return medians of the seconds of the network alone, of an evaluation, and of the network in the other format."""
    blocks = [extractor.prepare(part) for part, _, _ in batches(images)]

    def alone() -> None:
        for block in blocks:
            extractor.describe(block)

    def contiguous() -> None:
        extractor.network.to(memory_format=torch.contiguous_format)
        alone()
        extractor.network.to(memory_format=torch.channels_last)

    def evaluation() -> None:
        collect(extractor, batches(images))

    ways = (alone, evaluation, contiguous)
    times = [[seconds(way) for way in ways] for _ in range(rounds + 1)]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]  # the first round warms up


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    keep_memory()  # as `aigc evaluate` does
    print("| judge | images | alone, images/s | evaluation, images/s | ratio of times | contiguous |")
    print("|---|---|---|---|---|---|")
    for name, (make, shape, share) in CASES.items():
        images = torch.randint(256, (max(BLOCK, int(options.num * share)), *shape), dtype=torch.uint8)
        alone, evaluation, contiguous = measured(make(), images, options.rounds)
        rates = [f"{len(images) / time:,.0f}" for time in (alone, evaluation)]
        ratios = f"{evaluation / alone:.2f} | {contiguous / alone:.2f}"
        print(f"| {name} | {len(images):,} | {' | '.join(rates)} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
