"""The encoder of texts."""

import pytest
import torch

from aigc_lightning.errors import UserError
from aigc_lightning.networks.byte_encoder import ByteEncoder


def test_a_text_is_embedded_by_itself_and_padding_is_not_looked_at():
    torch.manual_seed(0)
    encoder = ByteEncoder(16, 2, 2, max_length=12).eval()
    tokens = encoder.tokenize(["", "red", "Grün"])
    assert tokens.shape == (3, 12) and tokens.ne(0).sum(dim=1).tolist() == [1, 4, 6]
    encoded = encoder(tokens)
    assert encoded.tokens.shape == (3, 12, 16) and encoded.pooled.shape == (3, 16)
    assert torch.equal(encoded.mask, tokens != 0) and torch.isfinite(encoded.tokens).all()
    alone = encoder(encoder.tokenize(["red"]))
    assert torch.allclose(alone.tokens[0], encoded.tokens[1], atol=1e-6)
    assert not torch.allclose(encoder(encoder.tokenize(["der"])).pooled, alone.pooled, atol=1e-4)  # order matters
    encoder.positions.data[4:] += 5.0  # padding is not looked at
    assert torch.allclose(encoder(encoder.tokenize(["red"])).pooled, alone.pooled)
    with pytest.raises(UserError, match="12 bytes"):
        encoder.tokenize(["a" * 12])
