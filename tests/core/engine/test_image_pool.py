import pytest
import torch

from aigc_lightning.core.engine.image_pool import ImagePool, joined


def images(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2).clone()


def values(tensor):
    return tensor[:, 0, 0, 0].tolist()


def filled(size):
    pool = ImagePool(size)
    pool.remember(images(*range(size)), 0)
    return pool


def test_a_pool_that_is_not_full_takes_everything_in_and_gives_nothing_out():
    pool = ImagePool(5)
    for step in range(3):
        new = images(*(10 * step + number for number in range(2)))
        assert torch.equal(pool.mixed(new, 0, 2, step), new)
        pool.remember(new, step)
    assert values(pool.images) == [0, 1, 10, 11, 20]


def test_half_of_the_images_are_exchanged_with_earlier_ones():
    pool, exchanged, count = filled(50), 0, 0
    for step in range(1, 200):
        new = images(*(1000 * step + number for number in range(4)))
        before = values(pool.images)
        shown = values(pool.mixed(new, 0, 4, step))
        assert values(pool.images) == before  # it stands still during the step
        pool.remember(new, step)
        after = values(pool.images)
        for mine, given in zip(values(new), shown, strict=True):
            if given == mine:
                assert mine not in after
            else:  # the two have changed places
                assert given in before and given not in after and after[before.index(given)] == mine
                exchanged += 1
            count += 1
    assert 0.42 < exchanged / count < 0.58


def test_an_earlier_image_is_given_to_one_row_only():
    pool = filled(3)
    for step in range(1, 50):
        new = images(*range(100, 108))
        old = [value for value in values(pool.mixed(new, 0, 8, step)) if value < 100]
        assert len(old) == len(set(old)) <= 3


@pytest.mark.parametrize("parts", [[(0, 8)], [(0, 3), (3, 8)], [(0, 2), (2, 4), (4, 8)]], ids=str)
def test_parts_of_a_batch_get_what_the_whole_gets(parts):
    pool, new = filled(6), images(*range(100, 108))
    whole = pool.mixed(new, 0, 8, 7, 1)
    assert not torch.equal(whole, new)
    pieces = [pool.mixed(new[first:last], first, 8, 7, 1) for first, last in parts]
    assert torch.equal(torch.cat(pieces), whole)


def test_other_keys_exchange_others():
    pool, new = filled(20), images(*range(100, 120))
    shown = {tuple(values(pool.mixed(new, 0, 20, 3, step))) for step in range(5)}
    assert len(shown) == 5


def test_no_pool():
    pool, new = ImagePool(0), images(1, 2)
    pool.remember(new, 0)
    assert torch.equal(pool.mixed(new, 0, 2, 1), new)
    assert pool.images is not None and len(pool.images) == 0


def test_one_process_has_the_global_batch_already():
    new = images(1, 2)
    assert joined(new, 0, 2) is new
