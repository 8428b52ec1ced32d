import argparse

import pytest

from aigc_lightning.config.command_line import parse, seed_list, split_model_options
from aigc_lightning.errors import UserError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("3", [3]),
        ("0-3", [0, 1, 2, 3]),
        ("3,7,20-22", [3, 7, 20, 21, 22]),
        (" 1 , 2-3 ", [1, 2, 3]),
        ("5,5,4-6", [5, 4, 6]),
        ("7-7", [7]),
        (str(2**63 - 1), [2**63 - 1]),
    ],
)
def test_seeds(text, seeds):
    assert seed_list(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "a", "1-", "-1", "3-1", "1.5", "1--2", "0-1000000", str(2**63), "1;2", "²"])
def test_seeds_that_are_refused(text):
    with pytest.raises(UserError):
        seed_list(text)


def test_what_a_parser_does_not_know_or_miss_is_a_users_mistake():
    def parser():
        made = argparse.ArgumentParser("aigc try", exit_on_error=False)
        made.add_argument("file")
        made.add_argument("--number", type=int)
        made.add_argument("--span")
        return made

    assert parse(parser(), ["x", "--number", "3"]).number == 3
    assert parse(parser(), ["x", "--number", "-3", "--span", "-3..3"]).span == "-3..3"
    for argv, said in {
        ("x", "--numbr", "3"): "--number",
        ("x", "--num", "3"): "--number",  # the beginning of a name is not the name
        ("x", "--number", "a"): "--number",
        (): "file",
        ("x", "--number"): "--number",
        ("x", "y"): "'y'",
    }.items():
        with pytest.raises(UserError, match=said):
            parse(parser(), list(argv))


def test_options_that_may_be_the_models():
    parser = argparse.ArgumentParser("aigc try", exit_on_error=False)
    parser.add_argument("file")
    parser.add_argument("--number", type=int)
    argv = ["--trunc", "-0.5", "x", "--number=3", "--some-name=a=b", "--number", "4", "--", "--y"]
    given, others = split_model_options(parser, argv)
    assert given == {"trunc": "-0.5", "some_name": "a=b"}
    assert others == ["x", "--number=3", "--number", "4", "--", "--y"]
    with pytest.raises(UserError, match="--number"):
        split_model_options(parser, ["--numbr"])
