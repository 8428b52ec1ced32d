"""No place of a config runs what a stranger wrote there: every argument of every class gets every kind of trap."""

import inspect
import json
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any, NamedTuple, cast

import jsonargparse
import pytest
import yaml
from lightning.fabric.plugins import environments
from lightning.pytorch import Trainer, loggers, profilers, strategies
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch import plugins as lightning_plugins

from aigc_lightning import plugins
from aigc_lightning.callbacks.checkpoints import Checkpoints
from aigc_lightning.callbacks.grids import Grids
from aigc_lightning.config import places as config_places
from aigc_lightning.config import short_names
from aigc_lightning.config.allowed_classes import LISTED, Allowed
from aigc_lightning.config.request import read_request
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.training.cli import TrainingCLI

PARTS = """
def mark():
    open({marker!r}, "w").close()

class Trap:
    def __init__(self, *args, **kwargs):
        mark()
    def __call__(self, *args, **kwargs):
        mark()

def spring(*args, **kwargs):
    mark()
"""
#: A registered callback, which may stand among callbacks and nowhere else.
BELL = """
import lightning.pytorch as pl

class Bell(pl.Callback):
    def __init__(self, times: int = 1):
        open({marker!r}, "w").close()
    def __call__(self, *args, **kwargs):
        open({marker!r}, "w").close()
"""
HANDLER = "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler"
TRAP = {"class_path": "trap.parts.Trap", "init_args": {"path": 1}}
CALLBACKS = ("trainer.callbacks", "trainer.callbacks[0]")


def program(marker) -> dict[str, Any]:
    """Return the class with which torch starts a program, made to leave a mark."""
    given = {"entrypoint": "/usr/bin/touch", "args": [str(marker)], "stdout": None, "stderr": None}
    return {"class_path": HANDLER, "init_args": {**given, "env": {}, "local_rank_id": 0, "numa_options": None}}


def traps(marker) -> dict[str, Any]:
    """Return what a stranger may write, by kind."""
    text = yaml.safe_dump(TRAP, default_flow_style=True).strip()
    return {
        "a class of torch": program(marker),
        "a class of a plugin's package": TRAP,
        "a registered class": {"class_path": "trap.bell.Bell"},
        "a registered class with more": {"class_path": "trap.bell.Bell", "dict_kwargs": {"x": TRAP}},
        "a name": "trap.parts.Trap",
        "a function": "trap.parts.spring",
        "a function of torch": "torch.hub.load",
        "a list": [TRAP],
        "a mapping": {"x": TRAP},
        "a list in a mapping": {"x": [{"y": TRAP}]},
        "a text": text,
        "a text in a list": [text],
    }


class Place(NamedTuple):
    """Where a trap may be set.

    Args:
        where: its name.
        config: with an ellipsis where the trap goes.
        argument: what is the same for an argument that several classes have.
    """

    where: str
    config: Any
    argument: str


@pytest.fixture
def marker(site, folder):
    """Return the file that nothing may write, with the traps installed."""
    marker = folder / "marker"
    files = {"trap/__init__.py": "", "trap/parts.py": PARTS.format(marker=str(marker))}
    files["trap/bell.py"] = BELL.format(marker=str(marker))
    site.install("aigc-trap", {"callbacks": {"bell": "trap.bell:Bell"}}, files)
    return marker


@pytest.fixture
def parser(marker, tiny):
    """Return the parser of the options of `aigc fit`, with its limits."""
    request = read_request("fit", ["--config", str(tiny)])
    whole = jsonargparse.capture_parser(TrainingCLI, "fit", request, ExitStack())
    assert whole._subcommands_action is not None
    return whole._subcommands_action._name_parser_map["fit"]


def reads(parser, config, allowed: Allowed | None) -> bool:
    """Read a config as `aigc fit` does and build what it asks for; say whether it was accepted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            values = parser.parse_object(config)
            config_places.check(parser, values, allowed)
        except (Exception, SystemExit):
            return False
        with suppress(Exception):  # plain values of a wrong kind
            parser.instantiate(values)
    return True


def arguments_of(target: type) -> dict[str, str]:
    """Return the types of the arguments of a class, those that it hands on to others included, by name."""
    if inspect.isabstract(target):
        return {}
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(target, fail_untyped=False)
    typed = [action for action in parser._actions if hasattr(action, "_typehint")]
    types = {action.dest.partition(".")[0]: f"{action.dest}: {action._typehint}" for action in reversed(typed)}
    return dict(reversed(types.items()))


def classes_in(*modules) -> list[type]:
    found = (getattr(module, name) for module in modules for name in getattr(module, "__all__", dir(module)))
    return [target for target in found if inspect.isclass(target)]


def places_in(option: str, target: type) -> Iterator[Place]:
    """Yield the places of an object in an option of the trainer."""
    path = f"{target.__module__}.{target.__qualname__}"
    arguments = {name: ({"init_args": {name: ...}}, text) for name, text in arguments_of(target).items()}
    arguments["*"] = {"dict_kwargs": {"more": ...}}, path
    for name, (given, text) in arguments.items():
        spec = {"class_path": path, **given}
        yield Place(f"{path}.{name}", {"trainer": {option: [spec] if option == "callbacks" else spec}}, text)


def places_in_sections() -> Iterator[Place]:
    for section, target in {"trainer": Trainer, "engine": Engine, "grids": Grids, "checkpoints": Checkpoints}.items():
        for name in arguments_of(target):
            for where, place in ((f"{section}.{name}", ...), (f"{section}.{name}[0]", [...])):
                yield Place(where, {section: {name: place}}, where)
    for option in ("model", "data", "run", "resume", "max_images", "logger", "compile", "timeout", "seed_everything"):
        yield Place(option, {option: ...}, option)


def places_in_plugins(kind: plugins.Kind) -> Iterator[Place]:
    for plugin in plugins.plugins(kind):
        for name, text in arguments_of(plugin.load()).items():
            for place in (..., [...]):
                spec = {"class_path": plugin.class_path, "init_args": {name: place}}
                yield Place(f"{plugin.name}.{name} {place}", {kind: spec}, f"{text} {place}")
        more = {"class_path": plugin.class_path, "dict_kwargs": {"more": ...}}
        yield Place(f"{plugin.name}.*", {kind: more}, plugin.class_path)


def listed(where: str) -> bool:
    return where.rpartition(".")[0].rpartition(".")[2] in {path.rpartition(".")[2] for path in LISTED}


def places(group: str) -> Iterator[Place]:
    """Yield the places of a group."""
    built = {
        "callbacks": [*classes_in(lightning_callbacks), *(each.load() for each in plugins.plugins("callback"))],
        "strategy": classes_in(strategies),
        "profiler": classes_in(profilers),
        "logger": classes_in(loggers),
        "plugins": classes_in(lightning_plugins, environments),
    }
    if group == "sections":
        yield from places_in_sections()
    elif group in ("model", "data"):
        yield from places_in_plugins(cast(plugins.Kind, group))
    else:
        for target in built[group]:
            yield from places_in(group, target)


def with_trap(config: Any, trap: Any) -> Any:
    if config is ...:
        return trap
    if isinstance(config, dict):
        return {key: with_trap(value, trap) for key, value in config.items()}
    return [with_trap(value, trap) for value in config] if isinstance(config, list) else config


def spring(parser, marker, tiny_config, found, kinds, allowed) -> list[tuple[str, str]]:
    """Set traps and return the places at which something ran."""
    ran = []
    for where, config, _ in found:
        for kind in kinds:
            accepted = reads(parser, {**tiny_config, **with_trap(config, traps(marker)[kind])}, allowed)
            if marker.exists():
                ran.append((where, kind))
                marker.unlink()
            assert not accepted or isinstance(traps(marker)[kind], str) or "text" in kind or where in CALLBACKS, (
                f"{where} took {kind}"
            )
    return ran


@pytest.mark.slow
@pytest.mark.parametrize(
    "group", ["sections", "model", "data", "callbacks", "strategy", "profiler", "logger", "plugins"]
)
def test_no_trap_springs_at_any_place(group, parser, marker, tiny_config, site):
    found = list(places(group))
    assert len(found) > 15
    # Those that a list of classes keeps out altogether need no more than one trap each, and so does an argument that an
    # earlier class has with the same type.
    others = [place for place in found if not place.where.startswith("lightning.") or listed(place.where)]
    unlisted = [place for place in found if place not in others]
    new = [*{place.argument: place for place in reversed(others)}.values()]
    allowed = short_names.allowed()
    ran = spring(parser, marker, tiny_config, unlisted, ["a class of torch"], allowed)
    ran += spring(parser, marker, tiny_config, new, traps(marker), allowed)
    for place, kind in zip((place for place in others if place not in new), cycle(traps(marker))):
        ran += spring(parser, marker, tiny_config, [place], [kind], allowed)
    assert {where for where, _ in ran} <= {*CALLBACKS} and {kind for _, kind in ran} <= {"a registered class"}
    assert "trap/parts.py" not in site.imported


def test_no_trap_springs_in_the_strategy(parser, marker, tiny_config, site):
    found = [place for place in places("strategy") if "ddp.DDPStrategy.ddp" in place.where]
    assert len(found) == 3
    assert spring(parser, marker, tiny_config, found, traps(marker), short_names.allowed()) == []
    assert "trap/parts.py" not in site.imported


def test_each_layer_holds_alone(parser, marker, tiny_config, site):
    found = [place for place in places("strategy") if "ddp.DDPStrategy.ddp" in place.where]
    # Without the check of places, nothing is imported or built but what is listed or registered.
    kinds = [kind for kind in traps(marker) if "registered" not in kind]
    for where, config, _ in found:
        for kind in kinds:
            reads(parser, {**tiny_config, **with_trap(config, traps(marker)[kind])}, None)
            assert not marker.exists(), (where, kind)
    assert "trap/parts.py" not in site.imported
    # Without limits on jsonargparse, the check comes before anything is built.
    allowed = short_names.allowed()
    short_names.limit(trusted=True)
    assert spring(parser, marker, tiny_config, found, traps(marker), allowed) == []
    # And without either of them, the traps would have sprung.
    assert reads(parser, {**tiny_config, **with_trap(found[0].config, program(marker))}, None)
    deadline = time.monotonic() + 10
    while not marker.exists() and time.monotonic() < deadline:  # a program of its own, which takes its time
        time.sleep(0.05)
    assert marker.exists()


#: Configs that ran programs, by what does it.
STRANGERS: dict[str, dict[str, Any]] = {
    "a strategy": {"strategy": {"class_path": "DDPStrategy", "init_args": {"ddp_comm_state": program("marker")}}},
    "a progress bar": {
        "callbacks": [{"class_path": "RichProgressBar", "init_args": {"console_kwargs": {"file": program("marker")}}}]
    },
    "a function": {
        "callbacks": [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": "torch.hub.load"}}],
    },
    "a callable object": {
        "callbacks": [
            {
                "class_path": "LambdaCallback",
                "init_args": {
                    "on_fit_start": {
                        "class_path": "torchvision.transforms.Compose",
                        "init_args": {"transforms": [program("marker")]},
                    }
                },
            }
        ],
    },
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_configs_are_refused(name, aigc, write, folder):
    refused(aigc("fit", "--config", write("evil.yaml", {"trainer": STRANGERS[name]})), folder)
    ((option, value),) = STRANGERS[name].items()
    refused(aigc("fit", "--config", write("tiny.yaml"), f"--trainer.{option}={json.dumps(value)}"), folder)


def test_a_strangers_run_folder_is_refused(aigc, trained, folder):
    shutil.copytree(trained, folder / "run")
    config = yaml.safe_load((trained / "config.yaml").read_text())
    for changes in STRANGERS.values():
        evil = {**config, "trainer": {**config["trainer"], **changes}}
        (folder / "run" / "config.yaml").write_text(yaml.safe_dump(evil))
        refused(aigc("validate", "--checkpoint", "run"), folder)
    for command in (["test"], ["predict"]):
        refused(aigc(*command, "--checkpoint", "run"), folder)
    refused(aigc("fit", "--resume", "run", "--trainer.max_steps", 50), folder)


def test_strangers_data_is_refused(aigc, trained, folder):
    data = {"class_path": "degraded_images", "init_args": {"data": program("marker")}}
    (folder / "evil.yaml").write_text(yaml.safe_dump({"data": data}))
    for command in (["data", "check"], ["data", "stats"], ["data", "preview"], ["evaluate", trained]):
        refused(aigc(*command, "--data", "evil.yaml"), folder)
    more = {"class_path": "digits", "dict_kwargs": {"more": program("marker")}}
    (folder / "evil.yaml").write_text(json.dumps({"data": more}))
    refused(aigc("data", "check", "--data", "evil.yaml"), folder)


@pytest.mark.slow
def test_strangers_configs_are_refused_by_other_commands(aigc, write, folder):
    evil = write("evil.yaml", {"trainer": STRANGERS["a progress bar"]})
    refused(aigc("doctor", "resume", "--config", evil), folder)
    done = aigc("plugins", "check", "dcgan", "--config", evil)
    assert done.code == 1 and "RichProgressBar" in done.out and not (folder / "marker").exists()


def refused(done, folder) -> None:
    """Check that a command ended with a message and that nothing ran."""
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert "--trust-config" in done.err or "aigc data" in done.err, done.err
    assert not (folder / "marker").exists()


def test_a_trusted_config_may_run_anything(aigc, write, folder):
    aigc("fit", "--config", write("own.yaml", {"trainer": STRANGERS["a strategy"]}), "--trust-config")
    assert (folder / "marker").exists()


def test_the_data_of_a_record_is_limited_as_well(folder):
    from aigc_lightning.config.data_section import build_data

    with pytest.raises(Exception, match="SubprocessHandler"):
        build_data("aigc_lightning.data.degraded_images.DegradedImages", {"data": program("marker")})
    assert not (folder / "marker").exists()
    assert isinstance(build_data("aigc_lightning.data.sets.digits.Digits", {"size": 8}), Digits)


#: Values that are no code and no number, and the option that the message names.
VALUES = {
    "model.init_args.generator_lr": ({"model": {"init_args": {"generator_lr": float("nan")}}}, "generator_lr"),
    "trainer.limit_val_batches": ({"trainer": {"limit_val_batches": float("nan")}}, "trainer.limit_val_batches"),
    "a folder": (
        {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "/tmp/x"}}]}},
        "dirpath",
    ),
    "a file": (
        {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"filename": "../{step}"}}]}},
        "filename",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_that_are_refused_everywhere(name, aigc, write):
    changes, said = VALUES[name]
    done = aigc("fit", "--config", write("c.yaml", changes))
    assert done.code == 2 and said in done.err


def test_names_of_scores_in_file_names(aigc, write, folder):
    init = {"filename": "{step}-{val/sliced_wasserstein:.3f}", "auto_insert_metric_name": False, "save_top_k": -1}
    spec = {"class_path": "ModelCheckpoint", "init_args": {**init, "every_n_train_steps": 3}}
    done = aigc("fit", "--config", write("c.yaml", {"trainer": {"callbacks": [spec]}}))
    assert done.code == 0, done.err
    assert [path.name[:2] for path in (folder / "runs/c/1/checkpoints").glob("3-*.ckpt")] == ["3-"]


def test_a_value_is_no_reason_to_contact_an_address(aigc, write, folder):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/x.yaml"
    try:
        for changes in ({"model": address}, {"data": address}, {"trainer": {"strategy": address}}):
            config = {**yaml.safe_load(write("c.yaml").read_text()), **changes}
            (folder / "c.yaml").write_text(yaml.safe_dump(config))
            assert aigc("fit", "--config", "c.yaml").code == 2
    finally:
        server.shutdown()
    assert asked == []


def test_files_of_sections_are_checked_as_well(aigc, write, folder):
    (folder / "m.yaml").write_text("class_path: dcgan\ninit_args:\n  width: 8\n  latent_size: 4\n")
    config = yaml.safe_load(write("c.yaml").read_text())
    (folder / "c.yaml").write_text(yaml.safe_dump({**config, "model": "m.yaml"}))
    assert aigc("fit", "--config", "c.yaml", "--trainer.max_steps", 1).code == 0
    (folder / "m.yaml").write_text("class_path: dcgan\ninit_args:\n  width: 8\n  width: 4\n")
    done = aigc("fit", "--config", "c.yaml")
    assert done.code == 2 and "'width' is given twice" in done.err and "line 4" in done.err
    (folder / "m.yaml").write_text(yaml.safe_dump({"class_path": "dcgan", "init_args": {"loss": program("marker")}}))
    assert aigc("fit", "--config", "c.yaml").code == 2 and not (folder / "marker").exists()


BITS = """
from aigc_lightning.data.sets.digits import Digits

class Part:
    def __init__(self, level: int = 1):
        assert level < 3

class Red(Part):
    pass

class Bits(Digits):
    def __init__(self, size: int = 8, batch_size: int = 64, part: Part | None = None) -> None:
        super().__init__(size=size, batch_size=batch_size)
        print("part", type(part).__name__)
"""


@pytest.mark.parametrize("name", ["Red", "bits.data.Red"])
def test_a_plugin_may_have_parts_of_its_own(name, site, aigc):
    site.install("aigc-bits", {"data": {"bits": "bits.data:Bits"}}, {"bits/__init__.py": "", "bits/data.py": BITS})
    done = aigc("data", "check", "bits", f"--data.part={name}", "--data.part.level=2")
    assert "part Red" in done.out, done.err


def test_parts_from_elsewhere_are_none(site, aigc, folder):
    site.install("aigc-bits", {"data": {"bits": "bits.data:Bits"}}, {"bits/__init__.py": "", "bits/data.py": BITS})
    blue = "from bits.data import Part\nclass Blue(Part):\n    pass\n"
    site.folder.joinpath("stray.py").write_text(site._MARK + blue)
    done = aigc("data", "check", "bits", "--data.part=stray.Blue")
    assert done.code == 2 and "stray.Blue" in done.err and "stray.py" not in site.imported
