"""Preparing the command line of a stage before jsonargparse sees it: presets, short help, and checks of configs.

Mistakes found here get clearer messages than jsonargparse's.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aigc_lightning import plugins
from aigc_lightning.config.command_line import refuse_special_files
from aigc_lightning.core.io.download import is_address
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.plugins.model_file import is_model_file
from aigc_lightning.yaml_file import read_yaml

Stage = Literal["fit", "validate", "test", "predict"]
CONFIG_NAME = "config.yaml"
_GROUPS = ("engine", "ema", "privacy", "distill", "grids", "checkpoints")
_COMMON = {"seed_everything", "trainer", "model", "data", "run", *_GROUPS}
#: Accepted by all stages, so that they can share a run's config; only `fit` uses them.
_OF_FIT = {"max_images", "logger", "timeout", "compile"}
SECTIONS: dict[str, set[str]] = {
    "fit": _COMMON | _OF_FIT | {"resume"},
    "validate": _COMMON | _OF_FIT | {"checkpoint"},
    "test": _COMMON | _OF_FIT | {"checkpoint"},
    "predict": _COMMON | _OF_FIT | {"checkpoint"},
}

#: Options that a config cannot set.
_STARTING = ("run", "resume", "checkpoint")
#: Types of the sections that are not single values.
_HOLDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("trainer", *_GROUPS), (dict,)),
    **dict.fromkeys(("model", "data"), (dict, str)),
}
#: Paths of runs are given on the command line only: a config may come from a stranger.
_ON_THE_COMMAND_LINE = ("run", "resume", "checkpoint")
#: Options that print a help text and exit.
_HELP = ("--help", "--model.help", "--data.help")
_LARGEST_SEED = 2**32 - 1


@dataclass
class Request:
    """A prepared command line.

    Args:
        given: the arguments as the user gave them.
        argv: the arguments for jsonargparse, with presets replaced by files.
        configs: the config files, in order.
        run_config: the config found beside a checkpoint, if the user gave none.
        name: name of the run, from its first config or from model and data.
        help: whether only the short help was requested.
        trust_config: whether a config may run any code.
        parse_only: whether to exit once the options have been validated.
        record_of: the checkpoint whose record replaces a missing config.
        recorded: the contents of that record, as sections of a config.
    """

    given: list[str] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)
    configs: list[Path] = field(default_factory=list)
    run_config: Path | None = None
    name: str = "run"
    help: bool = False
    trust_config: bool = False
    parse_only: bool = False
    record_of: Path | None = None
    recorded: dict[str, Any] = field(default_factory=dict)

    @property
    def prints_only(self) -> bool:
        """Whether the command line only prints help or the config."""
        return any(argument.partition("=")[0] in ("--print_config", *_HELP) for argument in self.argv)


def read_request(stage: Stage, argv: list[str]) -> Request:
    """Prepare a stage's command line.

    Raises:
        UserError: a config is missing or invalid, or a required option is missing.
    """
    refuse_special_files(argv)
    request = Request(given=list(argv))
    rest = list(argv)
    named: list[str] = []  # --model and --data, which go before their options, as configs go before everything
    others: list[str] = []
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if argument in ("-h", "--help"):
            request.help = True
        elif argument == "--help-all":
            others.append("--help")
        elif argument == "--trust-config":
            request.trust_config = True
        elif name in ("-c", "--config"):
            if not equals and not rest:
                raise UserError("--config has no value.", "Give a YAML file or a preset; see: aigc configs")
            _add_config(stage, request, value if equals else rest.pop(0))
        elif argument == "--resume" and (not rest or rest[0].startswith("-")):
            others.append("--resume=latest")
        elif name in ("--model", "--data"):
            value = value if equals or not rest else rest.pop(0)
            named += [f"{name}={_of_file(value) if name == '--model' else value}"] if equals or value else [argument]
        else:
            others.append(argument)
    request.argv += named + others
    _add_run_config(stage, request)
    request.name = _run_name(request)
    if not request.help and not any(argument.partition("=")[0] in _HELP for argument in request.argv):
        _check_required(stage, request)
    return request


def _of_file(given: str) -> str:
    """Return the class path of a model that the command line names by its file, and other names as they are."""
    return plugins.register_model_file(given).class_path if is_model_file(given) else given


def value_of(argv: list[str], option: str) -> str | None:
    """Return the last value of an option in an argument list, or None."""
    found = None
    for number, argument in enumerate(argv):
        if argument.startswith(f"{option}="):
            found = argument.partition("=")[2]
        elif argument == option and number + 1 < len(argv):
            found = argv[number + 1]
    return found


def _add_config(stage: Stage, request: Request, given: str) -> None:
    path = Path(given)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml", ".json") or len(path.parts) > 1:
            raise UserError(f"There is no config file {given}.", _near_config(path))
        path = plugins.find_preset(given)
    check_config(stage, path)
    request.configs.append(path)
    request.argv += ["--config", str(path)]


def _near_config(path: Path) -> str:
    names = [name for name, _, _ in plugins.presets()]
    if path.stem in names:
        return f"There is a preset of that name: --config {path.stem}"
    siblings = [str(file) for file in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
    return did_you_mean(str(path), siblings) or did_you_mean(path.stem, names) or "`aigc configs` lists the presets."


def check_config(stage: Stage, path: Path) -> None:
    """Check that a config is YAML with the right sections.

    Raises:
        UserError: it is not; the message says where.
    """
    config = read_yaml(path)
    if config is None:
        raise UserError(f"{path} is empty.", "Give it the sections model, data and trainer.")
    if not isinstance(config, dict):
        raise UserError(f"{path} holds a {type(config).__name__}.", "A config is a mapping of sections such as model:.")
    for key, value in config.items():
        _check_section(stage, path, key, value)
        if key in _ON_THE_COMMAND_LINE and value is not None:
            raise UserError(
                f"{path} has a section {key!r}, but a config cannot say where a run is.",
                f"Leave it out, and write --{key} on the command line.",
            )
        wanted = _HOLDS.get(key, (object,))
        if value is not None and not isinstance(value, wanted):
            raise UserError(
                f"{path} has a {type(value).__name__} under {key}:",
                f"Write the options of {key} below it, one a line, each as `name: value`.",
            )


def _check_section(stage: Stage, path: Path, key: Any, value: Any) -> None:
    if key in _STARTING and value is not None:  # a config may be shared: it names no folder to write to
        raise UserError(f"{path} has a section {key!r}.", f"Take it out, and write --{key} on the command line.")
    if key in SECTIONS[stage]:
        return
    if key in SECTIONS:
        raise UserError(
            f"{path} puts its sections under {key!r}.", f"Write them at the top: `aigc {stage}` says it already."
        )
    homes = {"class_path": "model or data", "init_args": "model or data", "batch_size": "data: init_args"}
    trainer = {"max_steps", "max_epochs", "accelerator", "devices", "precision", "callbacks", "strategy", "max_time"}
    home = "trainer" if key in trainer else homes.get(key)
    hint = f"{key} belongs under {home}:" if home else did_you_mean(str(key), SECTIONS[stage])
    raise UserError(f"{path} has a section {key!r}, which `aigc {stage}` does not know.", hint)


def check_seed(seed: Any) -> None:
    """Check that a seed is a number that numpy accepts, True for a random one, or None.

    Raises:
        UserError: it is out of range.
    """
    if not isinstance(seed, bool) and seed is not None and not 0 <= seed <= _LARGEST_SEED:
        raise UserError(f"seed_everything is {seed}.", f"Give a whole number from 0 to {_LARGEST_SEED}.")


def _add_run_config(stage: Stage, request: Request) -> None:
    """Use the config of the run to resume or score if no other is given."""
    option = "--resume" if stage == "fit" else "--checkpoint"
    target = value_of(request.argv, option)
    if request.configs or target is None or value_of(request.argv, "--model"):
        return
    if target in ("auto", "latest"):
        chosen = value_of(request.argv, "--run")
        if chosen is None:
            raise UserError("--resume needs to know whose run.", "Add --config NAME, or write --resume RUN_FOLDER.")
        target = chosen
    if is_address(target):
        return  # files beside it are unknown
    checkpoint = find_checkpoint(target)
    folder = checkpoint.parent
    for candidate in (folder, folder.parent):
        if (candidate / CONFIG_NAME).is_file():
            check_config(stage, candidate / CONFIG_NAME)
            request.run_config = candidate / CONFIG_NAME
            request.configs.append(request.run_config)
            request.argv[:0] = ["--config", str(candidate / CONFIG_NAME)]
            return
    request.record_of = checkpoint


def _run_name(request: Request) -> str:
    if request.configs:
        path = request.configs[0]
        if path.name != CONFIG_NAME:
            return path.stem
        run = path.resolve().parent  # of a run: the name is that of the folder above the number
        return run.parent.name if run.name.isdecimal() else run.name
    parts = [value_of(request.argv, "--model"), value_of(request.argv, "--data")]
    return "_".join(part.rpartition(".")[2].rpartition(":")[2].lower() for part in parts if part) or "run"


def _check_required(stage: Stage, request: Request) -> None:
    if request.record_of is not None:
        return
    merged: dict[str, Any] = {}
    for path in request.configs:
        merged.update(read_yaml(path))
    for section in ("model", "data"):
        given = value_of(request.argv, f"--{section}") or value_of(request.argv, f"--{section}.class_path")
        if not merged.get(section) and given is None:
            names = ", ".join(plugin.name for plugin in plugins.plugins("model" if section == "model" else "data"))
            needed = "a model" if section == "model" else "data"
            raise UserError(
                f"`aigc {stage}` needs {needed}, and neither the config nor the command line names any.",
                f"Add --{section} NAME (known: {names}), or --config PRESET (see: aigc configs).",
            )
