"""Loaded models, kept by the hash of their files within a limit of memory."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_args

from aigc_lightning.core.capabilities import (
    CONDITIONS,
    Editor,
    Generator,
    LatentGenerator,
    latent_spaces,
    num_sampled_classes,
    size_multiple,
    takes,
)
from aigc_lightning.core.checkpoint import file_hash
from aigc_lightning.core.method_options import method_options
from aigc_lightning.inference.loaded_model import LoadedModel


class Models:
    """Loads models, and keeps those that were used last.

    Args:
        most: bytes of weights to keep; the model in use is kept even if it is larger.
        device: such as "cpu".
    """

    def __init__(self, most: int, device: str) -> None:
        self._most, self._device = most, device
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._hashes: dict[tuple[str, int, int], str] = {}

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._models)

    def get(self, target: str) -> LoadedModel:
        """Return a loaded model.

        Args:
            target: path of a checkpoint or an exported file, or an address.

        Raises:
            UserError: the file cannot be used.
        """
        key = self._key(target)
        if key not in self._models:
            self._models[key] = LoadedModel(target, self._device)
        self._models.move_to_end(key)
        while len(self._models) > 1 and sum(map(_bytes, self._models.values())) > self._most:
            self._models.popitem(last=False)
        return self._models[key]

    def _key(self, target: str) -> str:
        """Return the hash of a file, which is read again if it has changed; an address stands for itself."""
        path = Path(target)
        if not path.is_file():
            return target
        status = path.stat()
        version = (target, status.st_mtime_ns, status.st_size)
        if version not in self._hashes:
            self._hashes[version] = file_hash(path)
        return f"{self._hashes[version]} {path.name}"


@contextmanager
def interruptible(model: Any, check: Callable[..., None]) -> Iterator[None]:
    """Call a function before each layer of a model is computed; it raises an exception to interrupt the model."""
    handles = [module.register_forward_pre_hook(check) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def described(loaded: LoadedModel) -> dict[str, Any]:
    """Return what a model can do and which options it declares, for the forms of the page."""
    model: Any = loaded.model
    spec = model.spec
    about: dict[str, Any] = {
        "name": loaded.name,
        "sha256": loaded.digest,
        "step": loaded.record.get("step"),
        "size": [spec.width, spec.height],
    }
    if isinstance(model, Generator):
        classes = list(spec.class_names) if num_sampled_classes(model) else []
        about["sample"] = {
            "classes": classes,
            "prompts": takes(model.sample, "prompts"),
            "options": _options(model.sample),
        }
    if isinstance(model, LatentGenerator):
        about["walk"] = {"spaces": list(latent_spaces(model)), "options": _options(model.decode)}
    if isinstance(model, Editor):
        parameters = signature(model.edit).parameters
        conditions = [name for name in CONDITIONS["edit"] if takes(model.edit, name)]
        required = [name for name in conditions if parameters[name].default is Parameter.empty]
        about["edit"] = {
            "conditions": conditions,
            "required": required,
            "mixes": bool(getattr(model, "mixes_references", False)),
            "any_size": size_multiple(model) is not None,
            "options": _options(model.edit),
        }
    return about


def _options(method: Any) -> list[dict[str, Any]]:
    declared: Mapping[str, Parameter] = method_options(method)
    found = []
    for name, parameter in declared.items():
        kind = parameter.annotation
        plain = kind in (bool, int, float, str)
        choices = [] if plain else [str(choice) for choice in get_args(kind)]
        shown = str(parameter.default).lower() if kind is bool else str(parameter.default)
        found.append({"name": name, "kind": kind.__name__ if plain else "choice", "choices": choices, "default": shown})
    return found


def _bytes(loaded: LoadedModel) -> int:
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
