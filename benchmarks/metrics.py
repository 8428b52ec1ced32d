"""The cost of scoring: ours against torchmetrics and torch-fidelity, on the same images with the same extractor.

    python benchmarks/metrics.py [--num 10000] [--rounds 3]

Each measurement runs in its own process with one thread, and the libraries take turns; shown are medians of CPU time,
which excludes other work on the machine. The extractor is a small convolutional network with 2,048 random features, so
that the libraries' own overhead is visible. Memory is what scoring adds to a process that already has the images and
the network. A second table shows only the Frechet distance.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import sqrtm

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from aigc_lightning.core.run.machine import machine_line

FEATURES = 2048
LIBRARIES = ("ours", "torchmetrics", "torch-fidelity")
TASKS = ("FID", "FID and KID")
BATCH = 64


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, FEATURES), nn.ReLU()),
    ).eval()


class Bytes(nn.Module):
    """The network with the interface of torchmetrics: uint8 in, features out."""

    num_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features of uint8 images."""
        with torch.no_grad():
            features: Tensor = self.network(images.float() / 127.5 - 1)
        return features


class Images(Dataset[Tensor]):
    """Images with the interface of torch-fidelity."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Tensor:
        return self.images[number]


def make_images(num: int) -> tuple[Tensor, Tensor]:
    """Return two sets of blurred noise that differ in contrast."""
    generator = torch.Generator().manual_seed(0)
    sets = []
    for contrast in (1.0, 0.9):
        coarse = torch.rand(num, 3, 8, 8, generator=generator) * contrast
        sets.append(nn.functional.interpolate(coarse, size=32, mode="bilinear").mul_(255).byte())
    return sets[0], sets[1]


def ours(real: Tensor, fake: Tensor, task: str) -> Callable[[], float]:
    from aigc_lightning.evaluation.bank import collect
    from aigc_lightning.evaluation.extractor import Extractor, Features
    from aigc_lightning.metrics.frechet import frechet_distance
    from aigc_lightning.metrics.kernel_distance import kernel_distance

    class Small(Extractor):
        def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
            return Features(self.network(pixels / 127.5 - 1), None)

    shape = (3, 32, 32)
    extractor = Small(
        make_network(), name="small", weights_hash="0", shape=shape, resize="clean", num_features=FEATURES
    )

    def batches(images: Tensor) -> Iterator[tuple[Tensor, Tensor, None]]:
        for numbers in torch.arange(len(images)).split(BATCH):
            yield images[numbers], numbers, None

    def score() -> float:
        a, b = (collect(extractor, batches(images), keep_features=task != "FID") for images in (real, fake))
        if a.features is not None and b.features is not None:
            kernel_distance(a.features, b.features)
        return frechet_distance(a.moments, b.moments)

    extractor(real[:BATCH])
    return score


def torchmetrics(real: Tensor, fake: Tensor, task: str) -> Callable[[], float]:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    network = Bytes()

    def score() -> float:
        metrics: list[Any] = [FrechetInceptionDistance(feature=network)]
        if task != "FID":
            metrics.append(KernelInceptionDistance(feature=network))
        for images, is_real in ((real, True), (fake, False)):
            for part in images.split(BATCH):
                for metric in metrics:
                    metric.update(part, real=is_real)
        values = [metric.compute() for metric in metrics]
        return float(values[0])

    network(real[:BATCH])
    return score


def torch_fidelity(real: Tensor, fake: Tensor, task: str) -> Callable[[], float]:
    from torch_fidelity import calculate_metrics, register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    network = Bytes()

    class Small(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("2048",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "2048"

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (network(images),)

    register_feature_extractor("small", Small)

    def score() -> float:
        found = calculate_metrics(
            input1=Images(fake),
            input2=Images(real),
            feature_extractor="small",
            feature_layer_fid="2048",
            feature_layer_kid="2048",
            fid=True,
            kid=task != "FID",
            batch_size=BATCH,
            cuda=False,
            cache=False,
            save_cpu_ram=True,
            verbose=False,
        )
        return float(found["frechet_inception_distance"])

    network(real[:BATCH])
    return score


def trace_of_root(first: Any, second: Any) -> float:
    """Return the trace of the root of a product of matrices, as scipy finds it."""
    return float(np.trace(sqrtm(first @ second)).real)


def measure(library: str, task: str, num: int) -> None:
    """Score once and print the cost."""
    torch.set_num_threads(1)
    makers = {"ours": ours, "torchmetrics": torchmetrics, "torch-fidelity": torch_fidelity}
    score = makers[library](*make_images(num), task)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    value = score()
    seconds = time.process_time() - start
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"value": value, "seconds": seconds, "megabytes": megabytes}))


def compare_libraries(num: int, rounds: int) -> None:
    print(f"| {num} real and {num} fake images | Frechet distance | time | ours / theirs | memory | ours / theirs |")
    print("|---|---|---|---|---|---|")
    for task in TASKS:
        results: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
        for _ in range(rounds):
            for library, found in results.items():
                command = [sys.executable, __file__, "--num", str(num), "--measure", library, task]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
        medians = {
            library: {name: statistics.median(row[name] for row in found) for name in found[0]}
            for library, found in results.items()
        }
        for library, row in medians.items():
            ratios = [medians["ours"][name] / row[name] for name in ("seconds", "megabytes")]
            shown = ["", ""] if library == "ours" else [f"{ratio:.2f}" for ratio in ratios]
            print(
                f"| {task}, {library} | {row['value']:.6f} | {row['seconds']:.1f} s | {shown[0]} "
                f"| {row['megabytes']:.0f} MiB | {shown[1]} |"
            )


def compare_distances(rounds: int) -> None:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    from aigc_lightning.metrics.frechet import frechet_distance
    from aigc_lightning.metrics.moments import Moments

    print(f"\n| Frechet distance alone, d = {FEATURES} | ours | sqrtm | times faster | torch-fidelity | times faster |")
    print("|---|---|---|---|---|---|")
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(FEATURES, FEATURES, generator=generator) / FEATURES**0.5
    for num in (5000, 1000):
        a, b = (Moments.of((torch.randn(num, FEATURES, generator=generator) @ mix).abs()) for _ in range(2))
        mean_a, mean_b = a.mean.numpy(), b.mean.numpy()
        first, second = a.covariance.numpy(), b.covariance.numpy()
        statistics_a, statistics_b = {"mu": mean_a, "sigma": first}, {"mu": mean_b, "sigma": second}
        ways: dict[str, Callable[[], object]] = {
            "ours": partial(frechet_distance, a, b),
            "sqrtm": partial(trace_of_root, first, second),
            "torch-fidelity": partial(fid_statistics_to_metric, statistics_a, statistics_b, verbose=False),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.process_time()
                way()
                times[name].append(time.process_time() - start)
        median = {name: statistics.median(values) for name, values in times.items()}
        print(
            f"| n = {num} on each side | {median['ours']:.2f} s | {median['sqrtm']:.2f} s "
            f"| {median['sqrtm'] / median['ours']:.1f} | {median['torch-fidelity']:.2f} s "
            f"| {median['torch-fidelity'] / median['ours']:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        library, task = options.measure
        measure(library, task, options.num)
        return
    torch.set_num_threads(1)
    print(machine_line())
    compare_libraries(options.num, options.rounds)
    compare_distances(options.rounds)


if __name__ == "__main__":
    main()
