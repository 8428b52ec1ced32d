import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError


def test_a_spec_says_what_it_is():
    spec = ImageSpec(3, 32, 20, ("cat", "dog"))
    assert spec.shape == (3, 32, 20) and spec.num_classes == 2 and str(spec) == "32x20 RGB, 2 classes"
    described = ImageSpec(3, 8, 8, task="restoration", captions=True, masks=True, scale=2)
    assert str(described) == "8x8 RGB, captions, masks, scale 2"
    assert str(ImageSpec(1, 8, 8)) == "8x8 grey" and str(ImageSpec(4, 8, 9)) == "8x9 RGBA"


@pytest.mark.parametrize("numbers", [(0, 8, 8), (2, 8, 8), (5, 8, 8), (3, 0, 8), (3, 8, -1)])
def test_what_is_no_image(numbers):
    with pytest.raises(UserError):
        ImageSpec(*numbers)


@pytest.mark.parametrize("scale", [0, -1, float("inf"), float("nan")])
def test_what_is_no_scale(scale):
    with pytest.raises(UserError, match="times as large"):
        ImageSpec(3, 8, 8, scale=scale)


def test_plain_values_and_back():
    names: Any = ["a", "b"]  # as in JSON
    spec = ImageSpec(4, 8, 12, names, "paired", captions=True, masks=True, scale=1.5)
    assert spec.class_names == ("a", "b")
    assert ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert ImageSpec.from_dict({"channels": 1, "height": 2, "width": 3}) == ImageSpec(1, 2, 3)


def test_a_spec_does_not_change():
    with pytest.raises(FrozenInstanceError):
        ImageSpec(1, 8, 8).height = 3  # type: ignore[misc]  # on purpose
