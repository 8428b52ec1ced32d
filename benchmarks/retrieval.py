"""The cost and recall of search among many embeddings: a plain product, 8-bit codes, and graphs of other projects.

    python benchmarks/retrieval.py [--num 1000000] [--queries 200] [--methods product,codes,usearch,faiss]

The embeddings are crossed: 128 normal numbers of each of sqrt(num) rows, plus those of each of sqrt(num) columns, plus
0.3 times noise, normalised. So each has many others that are nearly as close, which is hard for graphs; a query is one
of them plus noise of a tenth of its length. Each method runs in its own process with one thread; times are CPU times,
which exclude other work on the machine. usearch and faiss are their HNSW with 16 links of 16 and 32-bit floats; they
are not installed with this package: pip install usearch faiss-cpu.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt
import torch

from aigc_lightning.core.run.machine import machine_line

torch.set_num_threads(1)
Floats = npt.NDArray[np.float32]
METHODS = ("product", "codes", "usearch", "faiss")
SIZE, NEIGHBOURS = 128, 10


def crossed(num: int) -> Floats:
    generator = np.random.default_rng(0)
    side = int(np.ceil(num**0.5))
    rows, columns = (generator.standard_normal((side, SIZE), dtype=np.float32) for _ in range(2))
    vectors = (rows[:, None] + columns[None]).reshape(-1, SIZE)[:num]
    vectors += 0.3 * generator.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def asked(vectors: Floats, count: int) -> Floats:
    generator = np.random.default_rng(1)
    noise = generator.standard_normal((count, SIZE), dtype=np.float32) * (0.1 / SIZE**0.5)
    queries: Floats = vectors[generator.choice(len(vectors), count)] + noise
    return queries


def product(vectors: Floats) -> tuple[Callable[[Floats], Any], int]:
    known = torch.from_numpy(vectors)
    return lambda query: (known @ torch.from_numpy(query)).topk(NEIGHBOURS).indices.numpy(), vectors.nbytes


def codes(vectors: Floats) -> tuple[Callable[[Floats], Any], int]:
    from aigc_lightning.inference.retrieval.coded import CodedVectors

    coded = CodedVectors(torch.from_numpy(vectors))
    return lambda query: coded.search(torch.from_numpy(query), NEIGHBOURS)[1].numpy(), vectors.nbytes * 5 // 4


def usearch_hnsw(vectors: Floats) -> tuple[Callable[[Floats], Any], int]:
    from usearch.index import Index

    looked_at = max(512, len(vectors) // 240)  # of more embeddings, more are nearly as close
    index = Index(ndim=SIZE, metric="ip", dtype="f16", connectivity=16, expansion_add=256, expansion_search=looked_at)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return lambda query: index.search(query, NEIGHBOURS, threads=1).keys, index.serialized_length


def faiss_hnsw(vectors: Floats) -> tuple[Callable[[Floats], Any], int]:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(SIZE, 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 128, 512
    index.add(vectors)
    return lambda query: index.search(query[None], NEIGHBOURS)[1][0], len(faiss.serialize_index(index))


def measure(method: str, num: int, count: int) -> None:
    vectors = crossed(num)
    queries = asked(vectors, count)
    began = time.process_time()
    search, size = {"product": product, "codes": codes, "usearch": usearch_hnsw, "faiss": faiss_hnsw}[method](vectors)
    built = time.process_time() - began
    search(queries[0])
    began = time.process_time()
    found = [search(query).tolist() for query in queries]
    each = (time.process_time() - began) / count
    print(json.dumps({"found": found, "build": built, "query": each, "bytes": size / num}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--measure", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.num, options.queries)
        return
    print(machine_line())
    print(f"| {options.num:,} x {SIZE} | recall@{NEIGHBOURS} | a query | to build | bytes an embedding |")
    print("|---|---|---|---|---|")
    exact: list[list[int]] = []
    for method in options.methods.split(","):
        own = ["--measure", method, "--num", str(options.num), "--queries", str(options.queries)]
        done = subprocess.run([sys.executable, __file__, *own], check=True, capture_output=True, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        exact = exact or result["found"]  # the first method is the plain product
        shares = [len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(exact, result["found"], strict=True)]
        cells = (
            f"{np.mean(shares):.4f} | {1e3 * result['query']:.2f} ms | {result['build']:.1f} s | {result['bytes']:.0f}"
        )
        print(f"| {method} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
