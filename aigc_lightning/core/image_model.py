"""What every model stands on: a spec, a record of how it was made, and losses kept without slowing the step."""

import inspect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, Self

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from aigc_lightning import __version__, plugins
from aigc_lightning.core import keyed
from aigc_lightning.core.capabilities import Generator
from aigc_lightning.core.position import batches_done
from aigc_lightning.core.redaction import redacted
from aigc_lightning.core.seed import run_seed, seed_everywhere
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError

#: Where a checkpoint keeps what made it.
RECORD_KEY = "aigc"


class ImageModel(pl.LightningModule):
    """Base of all models.

    A subclass takes the spec first and hands it on; its other arguments are plain values (numbers, text, lists,
    mappings, dataclasses of these), so that a checkpoint can say how to build the model and stay safe to load.

    Args:
        spec: what the images look like; given by the data, never written in a config.
    """

    #: Version of the plugin API that the model was written for.
    aigc_api: ClassVar[int] = 1
    #: Channel counts that the model can be built for.
    channels: ClassVar[tuple[int, ...]] = (1, 3, 4)

    _init_values: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the arguments, so that a checkpoint can name them without help from the subclass."""
        model = super().__new__(cls)
        if args or kwargs:  # copies and unpickled models are made without arguments and get their state afterwards
            try:
                bound = inspect.signature(cls.__init__).bind(model, *args, **kwargs)
            except TypeError:  # __init__ will say it better
                return model
            bound.apply_defaults()
            values = dict(list(bound.arguments.items())[1:])
            object.__setattr__(model, "_init_values", values)
        return model

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        if spec.channels not in self.channels:
            raise UserError(
                f"{type(self).__name__} makes images of {_listed(self.channels)} channels and the data has "
                f"{spec.channels} ({spec}).",
                "Choose the channels of the data to fit (for folders: --data.init_args.channels).",
            )
        self.spec = spec
        self._recorded: dict[str, list[Tensor]] = defaultdict(list)

    # ---- losses, kept as tensors until somebody looks

    def record(self, name: str, value: Tensor) -> None:
        """Keep a scalar of this step, such as a loss; nothing is copied from the device.

        Args:
            name: such as `generator_loss`; shown as `train/generator_loss`.
            value: scalar.
        """
        self._recorded[f"train/{name}"].append(value.detach())

    def pop_recorded(self) -> dict[str, float]:
        """Return the mean of every value recorded since the last call, and forget them."""
        recorded, self._recorded = self._recorded, defaultdict(list)
        return {name: torch.stack(values).float().mean().item() for name, values in recorded.items()}

    # ---- loops that every model has

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Key whatever is random in the step, such as dropout: a resumed run needs no state of any generator."""
        if self.automatic_optimization:  # else the engine does it for each micro-batch
            seed_everywhere(run_seed(), batches_done(self.trainer), self.global_rank)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: callbacks look at the held-out images. Models with a held-out loss override this."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Treat a test batch as a held-out batch."""
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Return what the model makes of a batch: an image a sample, its index being the seed, where it can sample.

        Models that edit or classify override this.
        """
        return self.sample(batch["index"].tolist()) if isinstance(self, Generator) else None

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Switch to evaluation without gradients and put every module's mode back afterwards."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    # ---- what made this model

    def provenance(self) -> dict[str, Any]:
        """Return plain values that say how to build this model again."""
        values = {name: plain(value, name) for name, value in self._init_values.items() if name != "spec"}
        class_path = f"{type(self).__module__}.{type(self).__qualname__}"
        plugin = plugins.find_by_class_path("model", class_path)
        makers = {plugin.distribution: plugin.version} if plugin and not plugin.is_builtin else {}
        return {
            "format": 1,
            "class_path": class_path,
            "config": redacted(values),  # checkpoints are handed to others
            "spec": self.spec.to_dict(),
            "versions": {"aigc_lightning": __version__, "torch": str(torch.__version__), **makers},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the record beside the weights."""
        checkpoint[RECORD_KEY] = {**checkpoint.get(RECORD_KEY, {}), **self.provenance()}


def seeded_normal(seeds: Sequence[int], *shape: int) -> Tensor:
    """Return standard normal numbers (B, *shape) in which row i depends on seeds[i] alone."""
    return torch.stack([keyed.normal(shape, seed) for seed in seeds])


def initialize_normal(module: nn.Module, std: float = 0.02) -> None:
    """Draw convolution and linear weights from N(0, std^2), norm scales from N(1, std^2); biases are 0 (DCGAN, 4)."""
    for layer in module.modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(weight, nn.Parameter):
            nn.init.normal_(weight, 1.0 if weight.ndim == 1 else 0.0, std)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def plain(value: Any, where: str) -> Any:
    """Return a copy made of None, bool, int, float, str, list and dict alone.

    Raises:
        TypeError: something else is inside; a program error of the model's author, hence no UserError.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    raise TypeError(f"{where} is a {type(value).__name__}: arguments of models must be plain values, lists or mappings")


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last
