"""Modules that keep moving averages of their networks' weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, cast

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from aigc_lightning.core.averaging import MovingAverage, averaged_copy
from aigc_lightning.core.checkpointed import CheckpointedModule, plain
from aigc_lightning.core.ema import Ema, recorded_ema
from aigc_lightning.core.records import checked_state

#: Where a checkpoint keeps the number of updates of each network's averages.
UPDATES_KEY = "aigc_ema_updates"


class AveragedModule(CheckpointedModule):
    """A module that keeps moving averages of the weights of the networks named in `averaged_networks`.

    They are updated after each step of the optimizer that trains the network. A subclass that overrides
    `configure_model` or `on_train_start` must also call the method of this class.
    """

    #: Attribute names of the networks whose moving average is kept.
    averaged_networks: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.ema_settings = Ema()
        self.averages = nn.ModuleDict()
        self.other_averages = nn.ModuleDict()  # for each network, the averages of all widths but the first
        self._moving: dict[str, MovingAverage] = {}
        self._restored_updates: dict[str, int] = {}
        self._is_differentiable = False
        self._images_taken = 0  # that training has taken, over all processes
        self._hooks_of_optimizers: list[RemovableHandle] = []

    def averaged(self, name: str) -> nn.Module:
        """Return the moving average of a network, or the network itself if no average is kept.

        Args:
            name: the attribute that holds the network.
        """
        is_kept = name in self.averages and not self._is_differentiable
        return cast(nn.Module, self.averages[name] if is_kept else getattr(self, name))

    @contextmanager
    def differentiable(self) -> Iterator[None]:
        """Let capabilities such as `decode` and `edit` use the trained networks, in their mode, with gradients."""
        before, self._is_differentiable = self._is_differentiable, True
        try:
            yield
        finally:
            self._is_differentiable = before

    def averages_of(self, name: str) -> list[nn.Module]:
        """Return all moving averages of a network: one, or one for each relative width."""
        first = [self.averages[name]] if name in self.averages else []
        return [*first, *(cast(nn.ModuleList, self.other_averages[name]) if name in self.other_averages else ())]

    def average_updates(self) -> dict[str, int]:
        """Return how often the averages of each network were updated; empty before training."""
        return {name: average.updates for name, average in self._moving.items()}

    def configure_model(self) -> None:
        """Create the averages; called before weights are loaded or training begins."""
        for name in self.averaged_networks:
            if self.ema_settings.count and name not in self.averages:
                first, *others = [averaged_copy(getattr(self, name)) for _ in range(self.ema_settings.count)]
                self.averages[name] = first
                if others:
                    self.other_averages[name] = nn.ModuleList(others)

    def reset_averages(self) -> None:
        """Let the averages begin with the present weights."""
        for name in self.averages:
            for average in self.averages_of(name):
                average.load_state_dict(getattr(self, name).state_dict())

    def on_train_start(self) -> None:
        """Let the averages follow their networks."""
        for handle in self._hooks_of_optimizers:
            handle.remove()
        self._moving = {name: MovingAverage(self.averages_of(name), getattr(self, name)) for name in self.averages}
        for name, average in self._moving.items():
            # Version 0.1 saved no number: it updated the averages at every step.
            average.updates = self._restored_updates.pop(name, self.trainer.global_step)
        self._images_taken = 0
        self._hooks_of_optimizers = self._follow_optimizers()

    def take_settings(self, record: dict[str, Any]) -> None:
        """Restore how the averages are kept."""
        super().take_settings(record)
        self.ema_settings = recorded_ema(record)

    def provenance(self) -> dict[str, Any]:
        """Add how the averages are kept to the record."""
        kept = {"ema": plain(self.ema_settings, "ema")} if self.averaged_networks else {}
        return {**super().provenance(), **kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the number of updates.

        Raises:
            UserError: training cannot resume from the content of the checkpoint.
        """
        super().on_load_checkpoint(checkpoint)
        if self.trainer.training:
            held = {UPDATES_KEY: checkpoint.get(UPDATES_KEY, {})}
            self._restored_updates = checked_state(held, {UPDATES_KEY: {str: int}}, "the checkpoint")[UPDATES_KEY]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the number of updates."""
        super().on_save_checkpoint(checkpoint)
        if self._moving:
            checkpoint[UPDATES_KEY] = self.average_updates()

    def _update_averages(self, *names: str) -> None:
        """Move the averages of networks towards their weights."""
        for name in names:
            average = self._moving[name]
            average.update(self.ema_settings.kept(average.updates, self._images_taken - average.images))
            average.images = self._images_taken

    def _follow_optimizers(self) -> list[RemovableHandle]:
        """Update each average after the steps of the optimizer that trains its network, the last of several ones."""
        handles = []
        for name in self._moving:
            own = {id(parameter) for parameter in getattr(self, name).parameters() if parameter.requires_grad}
            trained_by = [
                optimizer
                for optimizer in self.trainer.optimizers
                if any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"])
            ]
            hook = partial(self._after_optimizer, name)  # unlike a closure, it can be pickled with the model
            handles += [optimizer.register_step_post_hook(hook) for optimizer in trained_by[-1:]]
        return handles

    def _after_optimizer(self, name: str, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        # Without a gradient the step has changed nothing, as after a `training_step` that returned None.
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        if any(parameter.grad is not None for parameter in parameters):
            self._update_averages(name)
