import tracemalloc
from functools import partial
from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_lightning.core.sampler import BalancedSampler, StreamSampler
from aigc_lightning.errors import UserError


def samplers(num_samples, batch_size, world_size, position=0, **options):
    return [
        StreamSampler(
            num_samples, batch_size, seed=3, rank=rank, world_size=world_size, position=lambda: position, **options
        )
        for rank in range(world_size)
    ]


@settings(deadline=None)  # shared machines have slow moments
@given(st.integers(3, 60), st.integers(1, 8), st.integers(1, 3))
def test_an_epoch_visits_every_sample_once_over_all_processes(num_samples, batch_size, world_size):
    streams = [list(sampler) for sampler in samplers(num_samples, batch_size, world_size)]
    visits = [key.number for stream in streams for batch in stream for key in batch]
    assert sorted(visits) == list(range(num_samples))
    # A process without a batch would leave the others waiting for its gradients.
    assert len({len(stream) for stream in streams}) == 1
    assert all(batch for stream in streams for batch in stream)


@settings(deadline=None)  # shared machines have slow moments
@given(st.integers(3, 60), st.integers(1, 8), st.integers(1, 3), st.integers(0, 40))
def test_a_stream_from_a_position_is_the_rest_of_an_uninterrupted_one(num_samples, batch_size, world_size, done):
    for rank, sampler in enumerate(samplers(num_samples, batch_size, world_size)):
        uninterrupted: list[Any] = []
        sampler.position = uninterrupted.__len__
        while len(uninterrupted) < done + len(sampler):
            uninterrupted += list(sampler)
        rest = list(samplers(num_samples, batch_size, world_size, position=done)[rank])
        assert rest == uninterrupted[done : done + len(sampler)]


@settings(deadline=None)  # shared machines have slow moments
@given(st.integers(3, 60), st.integers(1, 8), st.integers(1, 3), st.integers(0, 40))
def test_layout_says_where_a_batch_lies_in_the_global_batch(num_samples, batch_size, world_size, position):
    streams = samplers(num_samples, batch_size, world_size, position=position)
    alone = StreamSampler(num_samples, batch_size * world_size, seed=3, position=lambda: position)
    layouts = [sampler.layout(position) for sampler in streams]
    batches = [next(iter(sampler)) for sampler in streams]
    assert [layout.count for layout in layouts] == [len(batch) for batch in batches]
    assert [layout.start for layout in layouts] == [sum(map(len, batches[:rank])) for rank in range(world_size)]
    assert {layout.total for layout in layouts} == {sum(map(len, batches))}
    if len(alone) == len(streams[0]):  # else the last two batches of an epoch were joined
        assert list(chain(*batches)) == next(iter(alone))


@settings(deadline=None)
@given(st.integers(4, 60), st.sampled_from([2, 4, 6, 12]), st.integers(1, 4), st.integers(1, 4), st.integers(0, 40))
def test_a_run_that_goes_on_with_other_processes_sees_the_same_batches(num_samples, total, before, after, position):
    if total % before or total % after or num_samples < before:
        return
    first = [list(sampler) for sampler in samplers(num_samples, total // before, before, position)]
    try:
        second = samplers(num_samples, total // after, after, position, original_world_size=before)
    except UserError as error:
        assert "processes cannot share" in error.what or "cannot be shared by" in error.what
        return
    assert second[0].samples_before(position) == samplers(num_samples, total // before, before)[0].samples_before(
        position
    )
    second = [list(sampler) for sampler in second]
    batches = [[list(chain(*parts)) for parts in zip(*streams, strict=True)] for streams in (first, second)]
    assert batches[0] == batches[1]


def test_a_last_batch_that_is_too_small_for_more_processes_is_refused():
    with pytest.raises(UserError, match="last batch of an epoch has 2 samples, which 3 processes") as error:
        StreamSampler(14, 1, seed=0, world_size=3, original_world_size=1)
    assert "at most 2" in error.value.hint
    assert len(StreamSampler(14, 3, seed=0, world_size=1, original_world_size=3)) == 4  # the last has 5


def test_samples_are_counted():
    sampler = samplers(10, 4, 1)[0]
    assert [sampler.samples_before(position) for position in range(7)] == [0, 4, 8, 10, 14, 18, 20]


def test_epochs_and_seeds_are_shuffled_differently():
    first, second = (list(samplers(100, 10, 1, position=position)[0]) for position in (0, 10))
    other_seed = list(StreamSampler(100, 10, seed=4))
    orders = [[key.number for batch in stream for key in batch] for stream in (first, second, other_seed)]
    assert orders[0] != orders[1] and orders[0] != orders[2]
    assert {key.epoch for batch in second for key in batch} == {1}


def test_without_shuffling_the_order_is_that_of_the_dataset():
    sampler = samplers(5, 2, 1, shuffle=False)[0]
    assert [[key.number for key in batch] for batch in sampler] == [[0, 1], [2, 3], [4]]


def test_last_batch_is_joined_where_a_process_would_go_empty():
    # 13 samples are two batches of 2 for 3 processes, and one sample over.
    streams = [list(sampler) for sampler in samplers(13, 2, 3)]
    assert [[len(batch) for batch in stream] for stream in streams] == [[2, 2], [2, 2], [2, 3]]


def test_impossible_divisions_are_refused():
    with pytest.raises(UserError, match="2 samples cannot be shared by 3 processes"):
        StreamSampler(2, 1, seed=0, world_size=3)
    with pytest.raises(UserError, match="batch_size is 0"):
        StreamSampler(2, 0, seed=0)


LABELS = torch.tensor([0] * 20 + [2] * 7 + [3] * 2 + [5])  # a rare class, and two without samples


def balanced(batch_size, world_size=1, position=0, labels=LABELS):
    return [
        BalancedSampler(labels, batch_size, seed=3, rank=rank, world_size=world_size, position=lambda: position)
        for rank in range(world_size)
    ]


def test_classes_are_balanced_over_any_epochs():
    sampler = balanced(4)[0]
    steps = len(sampler)
    for epochs in (1, 2, 5):
        keys = [key for epoch in range(epochs) for batch in balanced(4, position=epoch * steps)[0] for key in batch]
        counts = torch.bincount(LABELS[[key.number for key in keys]])
        assert len(keys) == epochs * len(LABELS)
        assert max(counts) - min(counts[counts > 0]) <= 1 and (counts > 0).sum() == 4


def test_classes_are_shown_in_given_proportions_over_any_epochs():
    weights = [1, 0, 2, 0, 0, 3]  # class 3 is never shown
    sampler = BalancedSampler(LABELS, 4, seed=3, weights=weights)
    for epochs in (1, 2, 5):
        keys = []
        for epoch in range(epochs):
            sampler.position = partial(int, epoch * len(sampler))
            keys += [key for batch in sampler for key in batch]
        counts = torch.bincount(LABELS[[key.number for key in keys]], minlength=6).tolist()
        assert counts == [epochs * 5 * weight for weight in weights] and len(set(keys)) == len(keys)


def test_a_class_is_gone_through_before_a_sample_comes_again_and_no_visit_is_twice_the_same():
    keys = [key for epoch in range(12) for batch in balanced(4, position=epoch * 8)[0] for key in batch]
    assert len(keys) == len(set(keys)) == 12 * len(LABELS)
    for label in (0, 2, 3, 5):
        counts = torch.bincount(torch.tensor([key.number for key in keys if LABELS[key.number] == label]))
        counts = counts[LABELS[: len(counts)] == label]
        assert max(counts) - min(counts) <= 1
    assert sorted(key.epoch for key in keys if key.number == 29) == list(range(90))  # the one sample of class 5


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 3), st.integers(0, 40))
def test_a_balanced_stream_is_resumed_and_shared_as_any_other(batch_size, world_size, done):
    streams = balanced(batch_size, world_size, position=done)
    for rank, sampler in enumerate(streams):
        uninterrupted: list[Any] = []
        whole = balanced(batch_size, world_size)[rank]
        whole.position = uninterrupted.__len__
        while len(uninterrupted) < done + len(whole):
            uninterrupted += list(whole)
        assert list(sampler) == uninterrupted[done : done + len(sampler)]
    alone = balanced(batch_size * world_size, position=done)[0]
    if len(alone) == len(streams[0]):
        assert list(chain(*(next(iter(sampler)) for sampler in streams))) == next(iter(alone))


def test_the_order_of_balanced_epochs_is_shuffled():
    keys = [key.number for batch in balanced(4)[0] for key in batch]
    assert LABELS[keys[:8]].tolist() != sorted(LABELS[keys[:8]].tolist())
    assert keys != [key.number for batch in balanced(4, position=8)[0] for key in batch]


@pytest.mark.parametrize("kind", ["all", "balanced"])
def test_an_epoch_of_a_million_takes_a_few_megabytes(kind):
    labels = torch.arange(1_000_000) % 7
    sampler = StreamSampler(1_000_000, 64, seed=0) if kind == "all" else BalancedSampler(labels, 64, seed=0)
    tracemalloc.start()
    first = next(iter(sampler))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len({key.number for key in first}) == 64
    assert peak < 60_000_000
