"""Options of commands that a model declares by the arguments of its methods."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from types import MappingProxyType
from typing import Any, Literal, get_origin

from aigc_lightning.core.capabilities import CONDITIONS, Editor


def method_options(method: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the options, by name, that a model declares for the commands that call a method.

    These are the keyword-only arguments with a default whose type is bool, int, float, str or a `Literal`: a `sample`
    with `*, trunc: float = 1.0` gives `aigc sample RUN --trunc 0.7`. Arguments that commands offer under names of their
    own, such as `direction`, are none.
    """
    try:
        known = signature(method, eval_str=True).parameters
    except NameError:  # types imported for type checkers only
        known = signature(method).parameters
    conditions = CONDITIONS.get(getattr(method, "__name__", ""), {})
    return {
        name: parameter
        for name, parameter in known.items()
        if parameter.kind is Parameter.KEYWORD_ONLY
        and name not in conditions
        and parameter.default is not Parameter.empty
        and (parameter.annotation in (bool, int, float, str) or get_origin(parameter.annotation) is Literal)
    }


def described_options(model: Any, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a receipt says of the options of a call: all values, and what the model says that they amount to.

    Args:
        model: the model.
        method: such as "sample".
        given: values that differ from the defaults.

    Returns:
        `options`, `network_evaluations` and the hashes of `option_hashes`, each if there is such a thing.
    """
    defaults = {name: parameter.default for name, parameter in method_options(getattr(model, method)).items()}
    described: dict[str, Any] = {"options": {**defaults, **given}} if defaults else {}
    count = getattr(model, "network_evaluations", None)
    if method == "sample" and count is not None:
        described["network_evaluations"] = int(count(**given))
    return described | option_hashes(model, given)


def option_hashes(model: Any, options: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of the networks that options name, as `<option>_sha256`, for receipts and pictures.

    A model whose options can name other runs, such as the guide of a diffusion model, has a method
    `named_components(options)`, which returns the hash of each by the option's name.
    """
    named = getattr(model, "named_components", None)
    return {f"{name}_sha256": sha256 for name, sha256 in named(options).items()} if named is not None else {}


def output_scale(editor: Editor, options: Mapping[str, Any] = MappingProxyType({})) -> int:
    """Return the number by which an editor's results are larger than its images.

    It is the model's attribute `scale` or, if `edit` has an option of this name, the option's value.

    Args:
        editor: the model.
        options: values of the model's options that are given.
    """
    own = method_options(editor.edit).get("scale")
    return int(getattr(editor, "scale", 1) if own is None else options.get("scale", own.default))
