from typing import Any

import pytest

from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.errors import UserError


def test_the_number_that_is_too_small_is_named():
    check_numbers(lr=0.1, width=1)
    check_numbers(zero=True, weight=0.0)
    wrong: list[dict[str, Any]] = [{"width": 0}, {"width": -1}, {"zero": True, "width": -1}]
    for options in wrong:
        with pytest.raises(UserError, match=rf"model\.width is {options['width']}"):
            check_numbers(lr=0.1, **options)


def test_numbers_without_end_and_too_many_layers_are_named():
    check_numbers(most=10, num_layers=10)
    for options in ({"lr": float("nan")}, {"lr": float("inf")}, {"most": 10, "num_layers": 11}):
        name = list(options)[-1]
        with pytest.raises(UserError, match=rf"model\.{name} is {options[name]}"):
            check_numbers(**options)
