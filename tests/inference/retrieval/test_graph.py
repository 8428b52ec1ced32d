"""Graphs for approximate search: built, updated and searched."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from aigc_lightning.inference.retrieval import graph
from aigc_lightning.inference.retrieval.graph import open_graph, update_graph
from aigc_lightning.inference.retrieval.index import Entry, ImageIndex
from aigc_lightning.inference.retrieval.search import most_similar, search

needs_usearch = pytest.mark.skipif(find_spec("usearch") is None, reason="usearch is not installed")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_ASSETS", str(tmp_path / "cache"))


def vectors(count, seed=0):
    return torch.randn(count, 24, generator=torch.Generator().manual_seed(seed)) * 3


@needs_usearch
def test_it_finds_what_exact_search_finds(tmp_path):
    known, queries = vectors(3000), vectors(40, 1)
    steps: list[tuple[int, int]] = []
    path = update_graph(tmp_path / "a.index", known, lambda done, total: steps.append((done, total)))
    assert steps[-1] == (3000, 3000) and path.parent == tmp_path / "cache" / "graphs"
    assert path.stat().st_size < 3000 * (2 * 24 + 200)  # half precision, and links
    found = open_graph(tmp_path / "a.index", known)
    assert found is not None
    values, places = most_similar(queries, known, 10)
    right = 0
    for query, value, place in zip(queries, values, places, strict=True):
        own, rows = found.search(query, 10)
        right += len(set(rows.tolist()) & set(place.tolist()))
        torch.testing.assert_close(own, torch.nn.functional.cosine_similarity(known[rows], query[None]))
        assert own[0] == pytest.approx(value[0].item(), abs=1e-5) and own.tolist() == sorted(own.tolist(), reverse=True)
    assert right >= 0.99 * 400


@needs_usearch
def test_an_update_adds_and_removes(tmp_path):
    known = vectors(500)
    update_graph(tmp_path / "a.index", known)
    changed = torch.cat([known[100:], vectors(50, 2)]).flip(0)
    assert open_graph(tmp_path / "a.index", changed) is None  # it is not of these embeddings
    steps: list[tuple[int, int]] = []
    update_graph(tmp_path / "a.index", changed, lambda done, total: steps.append((done, total)))
    assert steps == [(50, 50)]
    found = open_graph(tmp_path / "a.index", changed)
    assert found is not None
    assert [found.search(changed[row], 1)[1].item() for row in (0, 30, 200, 449)] == [0, 30, 200, 449]
    assert open_graph(tmp_path / "b.index", changed) is None


@needs_usearch
def test_equal_embeddings_are_all_found(tmp_path):
    known = vectors(60)
    known[[10, 20, 30]] = known[5].clone()
    update_graph(tmp_path / "a.index", known)
    found = open_graph(tmp_path / "a.index", known)
    assert found is not None
    values, rows = found.search(known[5], 4)
    assert set(rows.tolist()) == {5, 10, 20, 30} and values.min() > 0.999


@needs_usearch
def test_a_damaged_graph_is_made_again(tmp_path):
    path = update_graph(tmp_path / "a.index", vectors(50))
    path.write_bytes(b"damaged")
    assert open_graph(tmp_path / "a.index", vectors(50)) is None
    update_graph(tmp_path / "a.index", vectors(50))
    assert open_graph(tmp_path / "a.index", vectors(50)) is not None


@needs_usearch
def test_a_search_by_the_graph_names_the_same_images(tmp_path):
    known = vectors(300)
    index = ImageIndex("e", "e", "s", {f"{row}.png": Entry("", known[row], b"") for row in range(300)}, True)
    update_graph(tmp_path / "a.index", index.vectors)
    found = search(index, known[7], 5, open_graph(tmp_path / "a.index", index.vectors))
    exact = search(index, known[7], 5)
    assert [hit.name for hit in found] == [hit.name for hit in exact]
    assert [hit.similarity for hit in found] == pytest.approx([hit.similarity for hit in exact], abs=1e-5)


def test_without_usearch_searches_are_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "find_spec", lambda name: None)
    assert not graph.is_available() and open_graph(tmp_path / "a.index", vectors(5)) is None
