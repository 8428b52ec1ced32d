"""Short names become class paths at every place, whatever text or file they come from."""

import copy

import jsonargparse
import pytest
import yaml
from jsonargparse import Namespace, _typehints

from aigc_lightning.config import short_names
from aigc_lightning.config.parser import Parser
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError

DIGITS = "aigc_lightning.data.sets.digits.Digits"
DEGRADED = "aigc_lightning.data.degraded_images.DegradedImages"
INNER = {"class_path": "digits", "init_args": {"size": 8}}
OUTER = {"class_path": "degraded_images", "init_args": {"data": INNER}}


@pytest.fixture
def parser():
    """Return a parser with places for one object, several, those beside a text, and one in a group."""
    short_names.limit()
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(ImageDataModule, "data")
    parser.add_argument("--several", type=list[ImageDataModule] | ImageDataModule | None)
    parser.add_argument("--by_name", type=dict[str, ImageDataModule])
    parser.add_argument("--before", type=ImageDataModule | str)
    parser.add_argument("--after", type=str | ImageDataModule)
    parser.add_argument("--group.data", type=ImageDataModule)
    parser.add_argument("--config", action="config")
    return parser


def paths(value) -> list[str]:
    """Return the class paths in a value, the outermost first."""
    value = value.as_dict() if isinstance(value, Namespace) else value
    if isinstance(value, list):
        return [path for item in value for path in paths(item)]
    if not isinstance(value, dict):
        return []
    own = [value["class_path"]] if "class_path" in value else []
    return own + [path for item in value.values() for path in paths(item)]


#: Options, and the place that then holds the digits.
OPTIONS = {
    "a name": (["--data=digits"], "data"),
    "a value of its own": (["--data", "digits"], "data"),
    "quoted": (["--data='digits'"], None),
    "a list": (["--several=[digits, {class_path: digits}]"], "several"),
    "one instead of a list": (["--several", "digits"], "several"),
    "added to a list": (["--several+=digits", "--several+", "digits"], "several"),
    "by name": (["--by_name={a: digits, b: {class_path: digits}}"], "by_name"),
    "before text": (["--before=digits"], "before"),
    "in a group": (["--group.data=digits"], "group.data"),
    "a class path": (["--data.class_path=digits"], "data"),
    "arguments": (["--data.class_path", "digits", "--data.init_args.size", "8"], "data"),
    "nested": (["--data=degraded_images", "--data.data=digits"], "data.init_args.data"),
    "nested class path": (
        ["--data=degraded_images", "--data.init_args.data.class_path", "digits"], "data.init_args.data"
    ),
    "nested text": (["--data={class_path: degraded_images, init_args: {data: digits}}"], "data.init_args.data"),
    "a config as text": (["--config={data: digits}"], "data"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, parser):
    argv, place = OPTIONS[name]
    if place is None:
        with pytest.raises(UserError, match="no data named"):
            parser.parse_args(argv)
        return
    assert set(paths(parser.parse_args(argv)[place])) == {DIGITS}


@pytest.mark.parametrize(
    "config",
    [
        {"data": OUTER},
        {"several": [OUTER, OUTER]},
        {"by_name": {"x": OUTER}},
        {"before": OUTER, "after": OUTER},
        {"group": {"data": OUTER}},
        {"group.data": OUTER},
        {"several": str(OUTER)},
    ],
)
def test_mappings_are_resolved_and_not_changed(config, parser):
    given = copy.deepcopy(config)
    found = paths(parser.parse_object(config))
    assert config == given
    assert {DIGITS, DEGRADED} <= set(found) and all("." in path for path in found)


def test_what_is_a_text_stays_one(parser):
    values = parser.parse_args(["--before=no such data", "--after=digits"])
    assert (values.before, values.after) == ("no such data", "digits")


def test_files_of_objects(folder):
    (folder / "parts").mkdir()
    (folder / "parts" / "one.yaml").write_text(yaml.safe_dump(OUTER))
    (folder / "parts" / "list.yaml").write_text(yaml.safe_dump(["digits", INNER]))
    (folder / "parts" / "config.yaml").write_text("data: one.yaml\nseveral: list.yaml\ngroup: {data: one.yaml}\n")
    short_names.limit()
    parser = Parser(exit_on_error=False)
    for name, declared in {"data": ImageDataModule, "several": list[ImageDataModule]}.items():
        parser.add_argument(f"--{name}", type=declared, sub_configs=True)
    parser.add_argument("--group.data", type=ImageDataModule, sub_configs=True)
    parser.add_argument("--config", action="config")
    options = ["--data", "parts/one.yaml", "--several=parts/list.yaml", "--group.data=parts/one.yaml"]
    for argv in (["--config=parts/config.yaml"], options):
        values = parser.parse_args(argv)
        assert paths(values.data)[:2] == paths(values.group.data)[:2] == [DEGRADED, DIGITS]
        assert set(paths(values.several)) == {DIGITS} and values.data.init_args.data.init_args.size == 8


def test_a_text_that_means_two_things_is_refused():
    short_names.limit()
    short_names.expect("[1]", list)
    short_names.expect("[1]", list)
    parser = Parser(exit_on_error=False)
    parser.add_argument("--numbers", type=list[int])
    assert parser.parse_args(["--numbers=[1]"]).numbers == [1]
    short_names.expect("[1]", str)
    with pytest.raises(jsonargparse.ArgumentError, match="same text"):
        parser.parse_args(["--numbers=[1]"])
    short_names.limit()
    assert parser.parse_args(["--numbers=[1]"]).numbers == [1]


def test_no_function_of_jsonargparse_is_replaced(parser):
    parser.parse_args(["--data=digits"])
    assert _typehints.resolve_class_path_by_name.__module__ == "jsonargparse._typehints"
