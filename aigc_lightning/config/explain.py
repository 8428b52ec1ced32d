"""Translating errors from Lightning and jsonargparse into messages for users."""

import os
import re
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import OutOfMemoryError

from aigc_lightning.callbacks.checkpoints import unknown_score
from aigc_lightning.config import trainer_options
from aigc_lightning.config.allowed_classes import imported_class
from aigc_lightning.core.run.launch import SaidByFirstError
from aigc_lightning.errors import UserError, did_you_mean


@contextmanager
def explained(stage: str, *, running: bool = False) -> Iterator[None]:
    """Turn errors caused by the user's input into `UserError`.

    Args:
        stage: the stage whose options are being read.
        running: whether the trainer is running; an unknown error is then a bug and keeps its traceback, unless it was
            raised by Lightning itself because of its settings.
    """
    try:
        yield
    except (UserError, SaidByFirstError):
        raise
    except SystemExit as exit_:
        if exit_.code in (0, None) or running:
            raise
        raise UserError(f"The options of `aigc {stage}` could not be read.", f"See: aigc {stage} --help") from exit_
    except Exception as raised:
        error = _before_clean_up(raised)
        cause = _user_error_inside(error)
        if cause is not None:
            raise cause from error
        known = _known(stage, error)
        if known is None and running and _is_restoring(error):
            known = UserError(
                f"Training cannot continue from the checkpoint: {type(error).__name__}: {_shortened(str(error))}",
                "Give an unmodified checkpoint from `aigc fit`, or start a new run without --resume.",
            )
        if known is not None:
            raise known from error
        if running and not _is_lightnings_own(error):
            raise error from error.__cause__
        raise UserError(
            f"{type(error).__name__}: {_shortened(_essence(str(error)))}", f"See: aigc {stage} --help, or add --debug."
        ) from error


def _before_clean_up(error: Exception) -> Exception:
    """Return the original error if Lightning's clean-up after it raised another one."""
    first = error.__context__
    return first if "Please call `iter(combined_loader)`" in str(error) and isinstance(first, Exception) else error


def _is_restoring(error: Exception) -> bool:
    """Return whether an error was raised while restoring the state of the model, optimizers or callbacks."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(code.co_filename.endswith(_RESTORING) and "restore" in code.co_name for code in frames)


def _is_lightnings_own(error: Exception) -> bool:
    """Return whether no model, data or callback of this package or a plugin is in an error's traceback."""
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [name for name in names if name.split(".")[0] not in ("lightning", "torch", "contextlib")]
    own = all(name.startswith("aigc_lightning.commands.") for name in ours)
    return own and not any(name.startswith(("torch.autograd", "torch.optim")) for name in names)


def _essence(text: str) -> str:
    """Return the cause from a message of jsonargparse that lists what failed for each type it tried."""
    causes = [found for found in re.findall(r"^ *- (.+)$", text, re.MULTILINE) if not found.startswith("Expected a")]
    return causes[0] if "Union subtypes" in text and causes else text


def _user_error_inside(error: BaseException) -> UserError | None:
    """Return the `UserError` that another library has wrapped, if any."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


#: What Lightning's callbacks say about a missing score.
_MONITORED = re.compile(
    r"(?:Early stopping conditioned on metric `(?P<early>.+?)` which is not available.*any of the following:"
    r"|`ModelCheckpoint\(monitor='(?P<saved>.+?)'\)` could not find the monitored key in the returned metrics:)"
    r"(?P<known>[^\n]*?)(?:HINT|$)"
)
_RESTORING = os.path.join("trainer", "connectors", "checkpoint_connector.py")
_NO_COMPILE = "Leave --compile out."


def _known(stage: str, error: Exception) -> UserError | None:
    text = str(error)
    if isinstance(error, ArgumentError) or type(error).__name__ in ("ArgumentError", "ParserError"):
        if "surrogates not allowed" in text:
            return UserError(
                "A value on the command line has bytes that are not UTF-8, and configs and records are UTF-8 text.",
                "Rename that file or folder, or give a link to it; names below data.root may have any bytes.",
            )
        return _option_error(stage, text)
    monitored = _MONITORED.search(text)
    if monitored:
        option = "EarlyStopping.monitor" if monitored["early"] else "ModelCheckpoint.monitor"
        scores = set(re.findall(r"[`']([^`']+)[`']", monitored["known"])) - {"epoch", "step"}
        return unknown_score(option, monitored["early"] or monitored["saved"], scores)
    if isinstance(error, MisconfigurationException):
        if re.search(r"No supported gpu backend|CUDAAccelerator|MPSAccelerator|[Nn]o GPU", text):
            return UserError(
                "The run asks for a GPU, but this machine has none that torch can use.",
                "Use --trainer.accelerator auto, which uses what is available, or cpu.",
            )
        return UserError(_shortened(text), f"See: aigc {stage} --help")
    if isinstance(error, ValueError) and "number of the training batches" in text:
        return UserError(
            _shortened(text.partition(". ")[0] + "."),
            "Add --trainer.check_val_every_n_epoch null to count across epochs, or give a smaller interval.",
        )
    if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in text:
        return UserError(
            f"The checkpoint does not fit the model: {_shortened(text.partition(':')[2].partition(':')[2] or text)}",
            "Resume with the version of the package that wrote it, or start a new run without --resume.",
        )
    # torch says it in one way or the other, depending on what the compiled backward pass may overwrite.
    twice = "does not currently support double backward" in text or "non-empty donated buffers" in text
    if isinstance(error, RuntimeError) and twice:
        return UserError("A loss takes gradients of gradients, which compiled networks do not have.", _NO_COMPILE)
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return UserError(f"torch could not compile the networks: {_shortened(text)}", _NO_COMPILE)
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        wanted = re.search(r"tried to allocate (\d+) bytes", text)
        size = f": one tensor would take {int(wanted[1]) / 1e9:,.1f} GB" if wanted else ""
        what = f"The machine's memory is not enough{size}."
        return UserError(what, "Use a smaller model, image size or --data.batch_size.")
    if isinstance(error, OutOfMemoryError):
        return UserError("The GPU's memory is full.", "Use a smaller --data.batch_size or more --engine.micro_batches.")
    return None


def _option_error(stage: str, text: str) -> UserError:
    """Return the cause in one sentence: jsonargparse's own messages list every type that was tried."""
    key = _key(text)
    help_hint = f"See: aigc {stage} --help, or --help-all for every option."
    for pattern, explain in _RULES:
        found = pattern.search(text)
        if found:
            return explain(stage, key, found, text)
    lines = [line.strip(" -") for line in text.splitlines() if line.strip(" -")] or ["unreadable options"]
    return UserError(_shortened(f"{key}: {lines[-1]}" if key else lines[0]), help_hint)


def _key(text: str) -> str:
    """Return the dotted name of the option in a message of jsonargparse, or ""."""
    key = ""
    for part in re.findall(r'[Kk]ey "([\w.]+)"', text):
        key = part if not key or part.startswith(f"{key}.") else f"{key}.{part}"
    return key


def _not_importable(stage: str, key: str, found: re.Match[str], text: str) -> UserError:
    section, _, option = key.partition(".")
    listing = {"model": "models", "data": "data"}.get(section)
    hint = f"`aigc {listing}` lists what is available." if listing else ""
    if section == "trainer" and option in trainer_options.OPTIONS:
        hint = trainer_options.OPTIONS[option].instead
    return UserError(
        f"{key or 'The config'} names {found[1]}, which is not one of the classes that a config may name.",
        f"{hint or 'docs/training.md lists them.'} Add --trust-config if you trust the config to run any code.",
    )


def _wrong_class(stage: str, key: str, found: re.Match[str], text: str) -> UserError:
    given = re.search(r"class_path'?[:=] ?'([\w.:]+)'", text) or re.search(r"Given value: '?([\w.:]+)", text)
    kind = {"ImageModel": "model", "ImageDataModule": "data module"}.get(found[1], found[1])
    return UserError(
        f"{given[1] if given else 'The class'} is not a {kind} of aigc_lightning ({found[1]}).",
        "`aigc models` and `aigc data` list what is available.",
    )


def _missing(stage: str, key: str, found: re.Match[str], text: str) -> UserError:
    options = [f"{key}.{name.strip()}" if key else name.strip() for name in found[1].split(",")]
    return UserError(
        f"{' and '.join(options)} must be given.", f"Add {' '.join(f'--{option} VALUE' for option in options)}."
    )


def _unknown(stage: str, key: str, found: re.Match[str], text: str) -> UserError:
    name = found[1]
    if name == "class_path":
        return UserError(
            f"In the section {key or 'model or data'}, options stand beside class_path.",
            "Put the options of the class one level deeper, under init_args:",
        )
    prefixed = f"{key}.{name}" if key and not name.startswith(f"{key}.") else name
    owners = _OWNER.findall(text[: found.start()])
    owner = imported_class(owners[-1]) if owners else None
    near = _nearest_option(stage, prefixed) if owner is None else _nearest_own_option(stage, key, name, owner)
    hint = near or f"See: aigc {stage} --help, or --help-all for every option."
    return UserError(f"There is no option {prefixed}.", hint)


def _wrong_type(stage: str, key: str, found: re.Match[str], text: str) -> UserError:
    given = re.findall(r"Got value: ([^\n]{1,80})", text)
    given = given or re.findall(r"Given value: (?:NestedArg\(key='[^']*', val=)?([^\n]{1,80}?)\)?(?:\n|$)", text)
    choices = re.findall(r"Expected a typing\.Literal\[([^\]]*)\]", text)
    types = [name for name in re.findall(r"Expected an? <class '(\w+)'>", text) if name != "NoneType"]
    if choices:
        named = dict.fromkeys(choice.strip(" '") for group in choices for choice in group.split(","))
        wanted = f"one of {', '.join(named)}"
    elif types:
        wanted = " or ".join(dict.fromkeys(_TYPES.get(name, f"a {name}") for name in types))
    else:
        wanted = "a name, or a group of options as YAML"
    value = f", not {given[0].strip()}" if given else ""
    return UserError(f"{key or 'An option'} must be {wanted}{value}.", f"See: aigc {stage} --help")


_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a string", "list": "a list"}
_Explain = Callable[[str, str, re.Match[str], str], UserError]
#: The first pattern that matches decides, so specific ones come first.
_RULES: list[tuple[re.Pattern[str], _Explain]] = [
    (re.compile(r"Importing '([^']+)' is not allowed"), _not_importable),
    (re.compile(r"the following arguments are required: ([^\n]+)"), _missing),
    (re.compile(r"[Oo]ption '([\w.\-]+)' is not accepted"), _unknown),
    (re.compile(r"does not accept (?:option|key|nested key) '([\w.\-]+)'"), _unknown),
    (re.compile(r"[Uu]nrecognized arguments: -{0,2}([\w.\-]+)"), _unknown),
    (re.compile(r"Key '([\w.\-]+)' is not expected"), _unknown),
    (re.compile(r"does not correspond to a subclass of (\w+)"), _wrong_class),
    (re.compile(r"Expected an? (?:<class|typing)"), _wrong_type),
]


#: The class that refused an option.
_OWNER = re.compile(r"Problem with given class_path '([\w.]+)'")


def _nearest_own_option(stage: str, section: str, name: str, owner: type) -> str:
    """Return the options of a class with the most similar names, or those of another section, or ""."""
    from aigc_lightning.config.options import parameters, stage_options

    leaf = name.rpartition(".")[2]
    own = did_you_mean(leaf, parameters(owner), prefix=f"{section}.")
    elsewhere = [option for option in stage_options(stage) if option.rpartition(".")[2] == leaf]
    return own if own.startswith("Did") or not elsewhere else did_you_mean(elsewhere[0], elsewhere)


def _nearest_option(stage: str, name: str) -> str:
    """Return the options with the most similar names, among those of the stage and all models and data, or ""."""
    from aigc_lightning.config.options import option_names

    known = option_names(stage)
    leaf = name.rpartition(".")[2]
    near = did_you_mean(name, known) if name not in known else ""
    if not near or near.startswith("Known"):
        leaves = {option.rpartition(".")[2]: option for option in known}
        hint = did_you_mean(leaf, leaves)
        near = hint if hint.startswith("Did") else ""
    return near


def _shortened(text: str, limit: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]} ..."
