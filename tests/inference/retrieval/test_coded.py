"""Many searches of one index, by 8-bit codes and an exact ranking."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from aigc_lightning.inference.retrieval.coded import CodedVectors
from aigc_lightning.inference.retrieval.search import most_similar


def embeddings(count, dimensions, seed=0):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("dimensions", [1, 5, 24, 130])
def test_it_finds_what_exact_search_finds(dimensions):
    known, queries = embeddings(3000, dimensions), embeddings(20, dimensions, 1)
    coded = CodedVectors(known)
    values, _ = most_similar(queries, known, 10)
    for query, value in zip(queries, values, strict=True):
        own, rows = coded.search(query, 10)
        torch.testing.assert_close(own, value)
        torch.testing.assert_close(own, cosine_similarity(known[rows], query[None]))


def test_embeddings_that_are_closer_than_their_codes_can_tell_are_ranked_exactly():
    known = embeddings(1, 64) + 0.1 * embeddings(200, 64, 1)
    query = known[60] + 0.05 * embeddings(1, 64, 2)[0]
    assert CodedVectors(known).search(query, 9)[1].tolist() == most_similar(query[None], known, 9)[1][0].tolist()


def test_empty_embeddings_and_large_numbers_of_results():
    known = torch.cat([embeddings(40, 8), torch.zeros(2, 8)])
    values, rows = CodedVectors(known).search(known[7], 500)
    assert len(rows) == 42 and rows[0] == 7 and values[rows >= 40].tolist() == [0, 0]
