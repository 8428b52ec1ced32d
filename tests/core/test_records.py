from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import torch
from torch import nn

from aigc_lightning.core.records import (
    FORMAT,
    check_finite,
    check_record,
    check_resumable,
    check_size,
    checked_state,
    first_mismatch,
    kind_of,
)
from aigc_lightning.errors import UserError

PATH = Path("a.ckpt")
RECORD: dict[str, Any] = {
    "format": FORMAT,
    "class_path": "x.Y",
    "config": {"width": 3},
    "spec": {"channels": 1, "height": 8, "width": 8, "class_names": ["0"], "task": "generation"},
    "versions": {"aigc_lightning": "9.1"},
}


@pytest.mark.parametrize(
    ("value", "kind", "found"),
    [
        (3, int, ""),
        (True, int, "p is a bool"),
        (True, (int, bool), ""),
        (-1, int, "p is -1"),
        (-1.5, float, ""),
        (None, (float, NoneType), ""),
        ("x", int, "p is a str"),
        ({"a": {"b": 1}}, {"a": {"b": int}}, ""),
        ({"a": {"b": "1"}}, {"a": {"b": int}}, "p.a.b is a str"),
        ({"a": {}}, {"a": {"b": int}}, "p.a.b is missing"),
        ([], {"a": int}, "p is a list"),
        ({"x": 1, "y": 2}, {str: int}, ""),
        ({"x": 1, 2: 2}, {str: int}, "p has the key 2"),
        ([1, "2"], [int], "p is a str"),
        ({}, [int], "p is a dict"),
        ({"x": True}, {str: object}, ""),
    ],
)
def test_where_a_value_is_of_another_kind(value, kind, found):
    assert first_mismatch(value, kind, "p") == found


def test_the_kind_of_a_value_takes_its_like_alone():
    kind = kind_of({"total": {"ready": 3}, "last": False})
    assert first_mismatch({"total": {"ready": 8}, "last": True, "more": 1}, kind) == ""
    assert first_mismatch({"total": {"ready": 8}, "last": 1}, kind) == "last is a int"
    assert first_mismatch({"total": 3, "last": True}, kind) == "total is a int"


def test_structures_that_are_too_deep_or_too_large(monkeypatch):
    deep: dict[str, Any] = {}
    cycle: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": [deep]}
    cycle["a"] = cycle
    for held in (deep, cycle):
        with pytest.raises(UserError, match=r"a\.ckpt is nested more than 64 levels deep"):
            check_size(held, PATH)
    monkeypatch.setattr("aigc_lightning.core.records._MOST", 1000)
    laughs: list[Any] = ["ha"]
    for _ in range(30):  # a billion values that take no room
        laughs = [laughs, laughs]
    with pytest.raises(UserError, match="holds over 1,000 values"):
        check_size(laughs, PATH)
    check_size([[1, (2, {3})], {"a": torch.ones(2)}], PATH)


def test_a_newer_format_is_refused_with_both_named():
    with pytest.raises(UserError, match=f"has format 99, but aigc_lightning .* reads formats up to {FORMAT}") as error:
        check_record({**RECORD, "format": 99}, PATH)
    assert "was written by 9.1" in error.value.hint
    check_record(RECORD, PATH)
    check_record({name: value for name, value in RECORD.items() if name != "format"}, PATH)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "1"}, "format is a str"),
        ({"format": 0}, "format is 0"),
        ({"format": -1}, "format is -1"),
        ({"format": True}, "format is a bool"),
        ({"class_path": 3}, "class_path is a int"),
        ({"config": []}, "config is a list"),
        ({"config": {3: 4}}, "config has the key 3"),
        ({"spec": {}}, "spec.channels is missing"),
        ({"spec": {**RECORD["spec"], "height": "8"}}, "spec.height is a str"),
        ({"spec": {**RECORD["spec"], "class_names": "abc"}}, "spec.class_names is a str"),
        ({"spec": {**RECORD["spec"], "class_names": [1]}}, "spec.class_names is a int"),
        ({"spec": {**RECORD["spec"], "captions": "no"}}, "spec.captions is a str"),
        ({"spec": {**RECORD["spec"], "scale": True}}, "spec.scale"),
        ({"versions": {"torch": 2}}, "versions.torch is a int"),
        ({"engine": 3}, "engine is a int"),
        ({"data": {"class_path": "x"}}, "data.config is missing"),
        ({"precision": 16}, "precision is a int"),
        ({"optimizer_sizes": [None]}, "optimizer_sizes is a NoneType"),
    ],
)
def test_parts_of_another_kind_are_named(change, said):
    with pytest.raises(UserError, match=f"in its record, {said}"):
        check_record({**RECORD, **change}, PATH)


def test_what_is_no_record():
    record: Any
    for record in (None, 3, [], "record", {}):
        with pytest.raises(UserError, match="class_path is missing"):
            check_record(record, PATH)


CHECKPOINT = {
    "aigc": {**RECORD, "optimizer_sizes": [2]},
    "global_step": 3,
    "epoch": 0,
    "pytorch-lightning_version": "2.6.6",
    "loops": {"fit_loop": {}},
    "callbacks": {},
    "optimizer_states": [{"state": {0: {}, 1: {}}, "param_groups": [{}]}],
    "lr_schedulers": [],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"global_step": "3"}, "global_step is a str"),
        ({"loops": []}, "loops is a list"),
        ({"loops": {"fit_loop": 3}}, "loops.fit_loop is a int"),
        ({"callbacks": [1]}, "callbacks is a list"),
        ({"pytorch-lightning_version": 3}, "pytorch-lightning_version is a int"),
        ({"lr_schedulers": [3]}, "lr_schedulers is a int"),
        ({"optimizer_states": {}}, "optimizer_states is a dict"),
        ({"optimizer_states": []}, r"entries for \[\] parameters but \[2\] were saved"),
        ({"optimizer_states": [{}]}, "optimizer_states.state is missing"),
        ({"optimizer_states": [{"state": {}, "param_groups": [{}]}]}, r"entries for \[0\] parameters but \[2\]"),
        ({"optimizer_states": [{"state": {0: {}, 1: {}}, "param_groups": 1}]}, "param_groups is a int"),
    ],
)
def test_training_goes_on_from_whole_states_alone(change, said):
    check_resumable(CHECKPOINT, PATH)
    with pytest.raises(UserError, match=f"cannot resume from a.ckpt: .*{said}"):
        check_resumable({**CHECKPOINT, **change}, PATH)
    for name in change:
        with pytest.raises(UserError, match=f"{name} is missing"):
            check_resumable({key: value for key, value in CHECKPOINT.items() if key != name}, PATH)


def test_the_state_of_a_part():
    assert checked_state({"a": 1, "b": 2}, {"a": int}, "part") == {"a": 1}
    with pytest.raises(UserError, match=r"part\.a is a str"):
        checked_state({"a": "1"}, {"a": int}, "part")


def test_weights_that_are_not_finite_are_named():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    check_finite(network, network.state_dict(), PATH)  # a mask may be infinite
    large = {"0.weight": torch.full((2, 2), 3e38)}
    check_finite(network, large, PATH)  # the sum overflows, the numbers do not
    for name, value in [("0.weight", torch.nan), ("0.bias", torch.inf), ("1.running_var", torch.nan)]:
        weights = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        weights[name].view(-1)[-1] = value
        with pytest.raises(UserError, match=f"1 of .* numbers of {name} in a.ckpt are not finite"):
            check_finite(network, weights, PATH)
