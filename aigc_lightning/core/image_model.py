"""The base of every model: a spec, a record of how it was made, and losses kept without slowing the step."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from aigc_lightning.compat import HOOK_NAME
from aigc_lightning.core import keyed
from aigc_lightning.core.averaged import AveragedModule
from aigc_lightning.core.batch import batch_size, check_batch, check_needs
from aigc_lightning.core.fused_optimizers import lay_out_state
from aigc_lightning.core.memory.recomputation import recompute_activations
from aigc_lightning.core.memory.settings import MemorySettings
from aigc_lightning.core.predictions import predicted
from aigc_lightning.core.run.collectives import joint_means, share_tensors
from aigc_lightning.core.run.loop_state import batches_done, place_in_stream
from aigc_lightning.core.run.seed import run_seed, seed_everywhere
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.window import BatchLayout, Window
from aigc_lightning.errors import UserError


class ImageModel(AveragedModule):
    """Base class of all models.

    A subclass takes the spec first and passes it on; its other arguments are plain values (numbers, text, lists,
    mappings, dataclasses of these), so that a checkpoint can describe how to build the model and stays safe to load.

    Args:
        spec: what the images look like; given by the data, never written in a config.
    """

    #: Plugin API version that the model was written for.
    aigc_api: ClassVar[int] = 1
    #: Supported numbers of channels.
    channels: ClassVar[tuple[int, ...]] = (1, 3, 4)
    #: Fields that every batch must have besides its images: any of "label", "caption" and "mask".
    needs: ClassVar[tuple[str, ...]] = ()
    #: Classes of the blocks that its networks are made of: those that `--engine.checkpoint_activations` computes twice.
    block_classes: ClassVar[tuple[type[nn.Module], ...]] = ()
    #: Images that are sampled at once; None for what suits the device (`core/chunks.py`).
    sampling_chunk: ClassVar[int | None] = None
    #: What training batches may have in place of `image`: "latent" or "tokens", the encoded image.
    encoded_keys: tuple[str, ...] = ()
    #: Arguments of `sample` and `edit` that the model, built with the options that it has, does not take.
    without_conditions: tuple[str, ...] = ()
    #: Held-out score that selects the best checkpoint of a run; lower is better.
    monitor: ClassVar[str] = "val/sliced_wasserstein"

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        if spec.channels not in self.channels:
            raise UserError(
                f"{type(self).__name__} makes images of {_listed(self.channels)} channels but the data has "
                f"{spec.channels} ({spec}).",
                "Choose the channels of the data to fit (for folders: --data.init_args.channels).",
            )
        check_needs(type(self).__name__, self.needs, spec)
        self.spec = spec
        #: Settings of the training step.
        self.engine: MemorySettings = MemorySettings()
        self._held_out: dict[str, list[Tensor]] = defaultdict(list)
        self._window = Window()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the one that Lightning sets around every hook bypasses the slow path of modules."""
        if name == HOOK_NAME:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # ---- random numbers of a step

    def noise(self, count: int, *shape: int) -> Tensor:
        """Return standard normal numbers (count, *shape) for the samples of the batch in hand.

        They are keyed by (seed, step, draw, position of the sample in the global batch), so they depend neither on
        micro-batches nor on the number of processes.
        """
        return self._drawn(torch.randn, count, shape)

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Return numbers (count, *shape) in [0, 1), keyed like `noise`."""
        return self._drawn(torch.rand, count, shape)

    @property
    def step(self) -> int:
        """Number of batches finished before this one."""
        return batches_done(self.trainer)

    @property
    def share(self) -> float:
        """Factor that turns the mean loss of this process's samples into its share of the global batch's mean.

        It is 1 unless the processes have different numbers of samples, as in the last batch of an epoch.
        """
        return self._window.weight

    # ---- losses, kept as tensors until somebody looks

    def record(self, name: str, value: Tensor) -> None:
        """Record a scalar of this step, such as a loss; nothing is copied from the device.

        Args:
            name: such as `generator_loss`; shown as `train/generator_loss`.
            value: scalar.
        """
        self._recorded.add(f"train/{name}", value, self._window.weight)

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """Return the elementwise sum over all processes of the run; a collective operation.

        Args:
            values: of the same shape in all processes.
        """
        return cast(Tensor, self.trainer.strategy.reduce(values.clone(), reduce_op="sum"))  # it works in place

    def recorded_means(self) -> dict[str, float]:
        """Return the mean of each recorded scalar since the last reset, over all processes.

        A collective operation. Values are weighted by the number of samples they were computed from.
        """
        return self._recorded.means()

    def pop_recorded(self) -> dict[str, float]:
        """Return the result of `recorded_means` and reset the values."""
        means = self._recorded.means()
        self._recorded.forget()
        return means

    def log_held_out(self, name: str, values: Tensor) -> None:
        """Record a value for each held-out sample of a batch; their mean is logged at the end of the loop.

        Args:
            name: such as `psnr`.
            values: (B,) one value per sample of the current batch.
        """
        self._held_out[name].append(values.detach().double().cpu())

    def log_scores(self, scores: Mapping[str, float]) -> None:
        """Log held-out scores, equal in all processes, as `val/<name>`, or as `test/<name>` in a test.

        Args:
            scores: by name, such as {"accuracy": 0.98}; of all held-out samples of all processes.
        """
        stage = "test" if self.trainer.testing else "val"
        values = {f"{stage}/{name}": value for name, value in scores.items()}
        self.log_dict(values, logger=False, sync_dist=True)  # they are equal, but Lightning warns otherwise
        for logger in self.trainer.loggers:  # not with `log_dict`, which counts the steps from 0
            logger.log_metrics(values, step=self.trainer.global_step)

    # ---- loops that every model has

    def configure_model(self) -> None:
        """Share out the networks among the processes if the strategy is made for it; called before weights are loaded.

        A subclass that overrides this must call it last.
        """
        super().configure_model()
        if self.device_mesh is not None:
            from aigc_lightning.core.memory.sharding import shard_networks  # half a second of imports, for few runs

            shard_networks(self, self.block_classes, self.device_mesh["data_parallel"])

    def setup_from_data(self, data: Any) -> None:
        """Compute what must be known about the training data before the first step; does nothing by default.

        Such as the scale of latents, or the first entries of a codebook. It is called once in a run, without gradients,
        in all processes; what it sets must be parameters or buffers, which all processes take from the first one,
        checkpoints keep, and a resumed run therefore has. The averages of networks begin with it.

        Args:
            data: the data module; `data.training_batch(count)` returns the same images in all processes.
        """

    def on_fit_start(self) -> None:
        """Set up from the data, in a new run, and prepare for the settings of the engine that act on every model.

        Raises:
            UserError: the settings do not fit the model or the trainer.
        """
        if self.trainer.ckpt_path is None and type(self).setup_from_data is not ImageModel.setup_from_data:
            with torch.no_grad():
                self.setup_from_data(self.trainer.datamodule)  # type: ignore[attr-defined]  # the trainer has it
            share_tensors(self.state_dict().values())
            self.reset_averages()
        if self.engine.checkpoint_activations:
            recompute_activations(self, self.block_classes)
        if self.automatic_optimization and self.engine.micro_batches > 1:
            from aigc_lightning.core.memory.accumulation import split_steps  # as above

            split_steps(self)

    def on_train_start(self) -> None:
        """Prepare the optimizers, whose state has been loaded by now, for fused kernels.

        Raises:
            UserError: the checkpoint has another number of them; Lightning would ignore the surplus.
        """
        self._check_restored()
        super().on_train_start()
        for optimizer in self.trainer.optimizers:
            lay_out_state(optimizer)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed whatever is random in the step, such as dropout, by a key: a resumed run needs no generator state.

        Raises:
            UserError: a loader yields something other than a dict of the expected images.
        """
        check_batch(batch, self.spec, self.needs, self.encoded_keys)
        if self.ema_settings.half_life_images is not None:
            self._images_taken += self._layout(batch).total
        if self.automatic_optimization:  # otherwise the engine does it for each micro-batch
            seed_everywhere(run_seed(), self.step, self.global_rank)
            layout = self._layout(batch)
            weight = layout.count * self.trainer.world_size / layout.total
            self._window = Window(weight=weight, start=layout.start, total=layout.total)

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Reject invalid batches, as in training."""
        check_batch(batch, self.spec, self.needs)

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Reject invalid batches, as in training."""
        check_batch(batch, self.spec, self.needs)

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Reject invalid batches, as in training."""
        check_batch(batch, self.spec, self.needs)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: callbacks use the held-out images. Models with a held-out loss override this."""

    def on_validation_epoch_end(self) -> None:
        """Log the means, over all samples and processes, of the values passed to `log_held_out`."""
        kept, self._held_out = self._held_out, defaultdict(list)
        means = joint_means(
            {
                name: (float(sum(part.sum() for part in parts)), float(sum(map(len, parts))))
                for name, parts in kept.items()
            }
        )
        if means:
            self.log_scores(means)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Treat a test batch as a held-out batch."""
        return self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the means of the test images."""
        self.on_validation_epoch_end()

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        """Return images, logits or vectors for a batch, by the model's capabilities: see `core/predictions.py`."""
        return predicted(self, batch)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Evaluate without gradients, and restore every module's mode afterwards; idle in a `differentiable` block."""
        if self._is_differentiable:
            yield
            return
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def take_settings(self, record: dict[str, Any]) -> None:
        """Restore the engine's settings from a record; settings that this version does not know are ignored."""
        super().take_settings(record)
        kind = type(self.engine)
        known = {item.name for item in fields(kind)}
        self.engine = kind(**{name: value for name, value in record.get("engine", {}).items() if name in known})

    def provenance(self) -> dict[str, Any]:
        """Add to the record the settings of the engine that act on every model."""
        settings = {item.name: getattr(self.engine, item.name) for item in fields(MemorySettings)}
        return {**super().provenance(), "engine": settings}

    def _drawn(self, draw: Callable[..., Tensor], count: int, shape: tuple[int, ...]) -> Tensor:
        # All processes draw the numbers of the global batch and keep their own rows: simple, and cheap for latents.
        window = self._window
        number = window.draws.get(window.site, 0)
        window.draws[window.site] = number + 1
        total = max(window.total, window.start + count)
        generator = keyed.generator(run_seed(), self.step, window.site, number)
        rows = draw((total, *shape), generator=generator)[window.start : window.start + count]
        if self.device.type == "cuda":
            rows = rows.pin_memory()  # otherwise the host would wait for the copy
        return rows.to(self.device, cast(torch.dtype, self.dtype), non_blocking=True)

    def _layout(self, batch: Any) -> BatchLayout:
        """Return the position of this process's batch in the global batch."""
        count = batch_size(batch)
        sampler = getattr(self.trainer.train_dataloader, "batch_sampler", None)
        layout = getattr(sampler, "layout", None)
        if layout is None:  # a third-party loader: assume equal shares
            return BatchLayout(self.global_rank * count, count, self.trainer.world_size * count)
        return cast(BatchLayout, layout(place_in_stream(self.trainer)))


def seeded_normal(seeds: Sequence[int], *shape: int) -> Tensor:
    """Return standard normal numbers (B, *shape) in which row i depends on seeds[i] only."""
    return torch.stack([keyed.normal(shape, seed) for seed in seeds])


def initialize_normal(module: nn.Module, std: float = 0.02) -> None:
    """Draw convolution and linear weights from N(0, std^2), norm scales from N(1, std^2); biases are 0 (DCGAN, 4)."""
    for layer in module.modules():
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if isinstance(weight, nn.Parameter):
            nn.init.normal_(weight, 1.0 if weight.ndim == 1 else 0.0, std)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last
