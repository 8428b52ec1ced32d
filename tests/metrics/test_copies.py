import pytest
import torch

from aigc_lightning.errors import UserError
from aigc_lightning.metrics.copies import copies


def normal(count, seed):
    return torch.randn(count, 20, generator=torch.Generator().manual_seed(seed))


def test_planted_copies_are_found_and_others_are_called_copies_as_rarely_as_was_asked_for():
    train, held_out = normal(500, 0), normal(1000, 1)
    planted = train[40:60] + 0.05 * normal(20, 2)
    found = copies(train, held_out, torch.cat([normal(1000, 3), planted]), false_alarms=0.01)
    called = found.distances < found.threshold
    assert called[1000:].all() and found.nearest[1000:].tolist() == list(range(40, 60))
    assert called[:1000].double().mean().item() == pytest.approx(0.01, abs=0.01)
    assert found.rate == called.double().mean().item()


def test_the_threshold_leaves_the_share_of_held_out_images_below_it():
    train, held_out = normal(300, 0), normal(400, 1)
    for share in (0.0, 0.01, 0.1):
        assert copies(train, held_out, held_out, false_alarms=share).rate == share


def test_of_several_variants_the_nearest_counts():
    train, held_out = normal(500, 0), torch.stack([normal(600, 1), normal(600, 4)], dim=1)
    fake = torch.stack([normal(100, 2), normal(100, 3)], dim=1)
    fake[7, 1], fake[9, 0] = train[70], train[90]
    found = copies(train, held_out, fake)
    assert found.distances[[7, 9]].max() == 0 and found.nearest[[7, 9]].tolist() == [70, 90]
    alone = torch.stack([copies(train, held_out[:, place], fake[:, place]).distances for place in range(2)])
    torch.testing.assert_close(found.distances, alone.amin(dim=0))
    assert copies(train, held_out, held_out).rate == pytest.approx(0.01, abs=0.002)
    same = copies(train, held_out[:, :1], fake[:, :1])
    assert torch.equal(same.distances, copies(train, held_out[:, 0], fake[:, 0]).distances)


def test_an_empty_set_is_refused():
    with pytest.raises(UserError, match="no held-out images"):
        copies(normal(5, 0), normal(0, 1), normal(5, 2))
