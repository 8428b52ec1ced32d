"""Vectors of texts: which words share one, and that a transformer reads a text by them."""

import pytest
import torch
from aigc_lightning.networks.byte_encoder import ByteEncoder
from torch import nn

from aigc_autoregressive.transformers import Condition, ImageGPT
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.word_vectors import NUM_ROWS, WordVectors, numbers_of, rows_of


def test_a_text_is_its_words_and_pairs_of_neighbours():
    assert len(rows_of("a red star")) == 5 and not rows_of(" ")
    assert rows_of("a Red  star") == rows_of("A red star") and rows_of("red") == [rows_of("a red star")[1]]
    assert set(rows_of("a red star")) != set(rows_of("a star red"))
    assert len(rows_of("\u7ea2\u661f")) == 3  # two words, which no space separates
    assert all(0 <= row < NUM_ROWS for row in rows_of("un c\u0153ur rouge"))


def test_vectors_are_sums_and_do_not_depend_on_the_other_texts():
    words = WordVectors(4)
    table = words.table.weight
    expected = table[rows_of("two words")].sum(0) / 3**0.5
    found = words(numbers_of(["two words", "", "many more words than these"]))
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(words(numbers_of(["two words"]))[0], expected)
    assert not found[1].any() and words(numbers_of(["", ""])).shape == (2, 4)


@pytest.mark.parametrize("caption", ["a {} star and a {} circle", "a {} circle, then a {} star"])
def test_a_transformer_soon_reads_which_of_two_words_matters(caption):
    torch.manual_seed(0)
    words, transformer = (
        WordVectors(16),
        ImageGPT(2, (1, 2), width=16, depth=1, num_heads=2, context_width=1, context_length=1),
    )
    pairs = [(first, second) for first in (0, 1) for second in (0, 1)]
    texts = [caption.format(*(("red", "blue")[number] for number in pair)) for pair in pairs]
    tokens = torch.tensor(pairs)[:, :1].expand(-1, 2)  # the colour named first
    optimizer = torch.optim.Adam([*words.parameters(), *transformer.parameters()], lr=5e-3)
    for _ in range(40):
        loss = -transformer.log_prob(tokens, Condition(summary=words(numbers_of(texts)))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_the_condition_of_texts_has_the_vectors_of_their_words():
    text = ByteEncoder(size=8, depth=1, heads=2, max_length=12)
    network = Conditioned(nn.Identity(), text, 16)
    found = network.condition(None, ["a dog", ""])
    torch.testing.assert_close(found.summary, network.words(numbers_of(["a dog", ""])))
    assert found.dropped.tolist() == [False, True]
    assert Conditioned(nn.Identity(), None, 16).words is None
