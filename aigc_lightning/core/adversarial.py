"""Adversarial training: everything that is easy to get wrong, implemented once.

One step is one batch, whatever the number of players and updates: the trainer's `global_step`, budgets, checkpoints,
averages, schedulers and logs all count batches.

A batch may be split into micro-batches to save memory. The players are then updated one after the other, each with
its gradient summed over all micro-batches, as in one pass over the whole batch. So a step is never half finished, and
a checkpoint between two steps is complete.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.hooks import RemovableHandle

from aigc_lightning.core.async_read import waits
from aigc_lightning.core.batch import batch_size
from aigc_lightning.core.checkpointed import plain
from aigc_lightning.core.engine.augmentation import Augmentation, augmenting_hook
from aigc_lightning.core.engine.autocast import without_autocast
from aigc_lightning.core.engine.distributed import joint_sum
from aigc_lightning.core.engine.hooks import backward_is_plain
from aigc_lightning.core.engine.nonfinite import LateGuard
from aigc_lightning.core.engine.player import Player, only
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.engine.updates import Scaler, update_of
from aigc_lightning.core.fused_optimizers import use_fused
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.memory.micro_batches import split
from aigc_lightning.core.privacy.adversarial import RealPart
from aigc_lightning.core.run.seed import run_seed, seed_everywhere
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.window import BatchLayout, Window
from aigc_lightning.errors import UserError


class AdversarialModel(RealPart, ImageModel):
    """Base class of models whose networks are trained against each other.

    A subclass names its `players` (attributes that hold the networks), defines in `adversarial_step` which of them is
    updated with which loss in which order, and returns one optimizer per player, in the same order, from
    `configure_optimizers`.

    Args:
        spec: what the images look like.
    """

    #: Attribute names of the networks that are trained, in the order of their optimizers.
    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    averaged_networks: ClassVar[tuple[str, ...]] = ("generator",)
    #: The former name of `averaged_networks`, which subclasses may still set.
    averaged_players: ClassVar[tuple[str, ...]] = ("generator",)
    #: Attribute names of the networks that judge images; None: the players whose names begin with "discriminator".
    discriminators: ClassVar[tuple[str, ...] | None] = None
    #: Number of samples that a network compares with each other, as in a minibatch standard deviation: they stay
    #: together when a batch is split.
    group_size: int = 1
    engine: Engine

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the two names of `averaged_networks` mean the same."""
        super().__init_subclass__(**kwargs)
        if "averaged_players" in vars(cls) and "averaged_networks" not in vars(cls):
            cls.averaged_networks = cls.averaged_players
        cls.averaged_players = cls.averaged_networks

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.automatic_optimization = False
        self.engine = Engine()
        self.augmentation: Augmentation | None = None
        self._table: dict[str, Player] = {}
        self._plain_backward, self._world_size = False, 1
        self._scaler: Scaler = None
        self._now = -1  # number of the running step, -1 between steps
        self._guard: LateGuard | None = None
        self._hooks: list[RemovableHandle] = []

    # ---- what a model defines or uses

    def adversarial_step(self, batch: Any) -> None:
        """Update the players on a batch (or on a micro-batch of it) by calling `update`.

        With micro-batches it runs once for each update and micro-batch: compute from the batch and `noise` alone.
        """
        raise TypeError(f"{type(self).__name__} does not define adversarial_step(batch)")

    def update(self, player: str, loss: Callable[[], Tensor], *, every: int = 1, name: str = "") -> None:
        """Move one player down the gradient of a loss; all other players are frozen meanwhile.

        Args:
            player: one of `players`.
            loss: returns the scalar mean loss over the samples of the batch in hand.
            every: update only at every n-th step, counted from 1; the loss is not computed at the other steps.
            name: prefix under which the loss is logged, "<name>_loss"; the player's name by default. Needed where a
                player has several losses.

        Raises:
            TypeError: the model names no such player.
        """
        if player not in self._table:
            raise TypeError(f"{type(self).__name__} updates {player!r}, which is not among its players {self.players}")
        window = self._window
        number, window.updates = window.updates, window.updates + 1
        if (window.live is None or window.live == number) and (self.step + 1) % every == 0:
            window.site = number + 1
            self._descend(self._table[player], loss, name or player)
            window.site = 0

    def observe_real(self, logits: Tensor) -> None:
        """Pass a discriminator's logits on real images to the adaptive augmentation; call this in its loss.

        Args:
            logits: any shape; positive where images look real.
        """
        if self.augmentation is not None:
            self.augmentation.observe(logits)

    @property
    def step(self) -> int:
        """Number of batches finished before this one."""
        # Cached while the players are updated; asking the trainer is slow.
        return self._now if self._now >= 0 else int(self.trainer.global_step)

    # ---- life of a run

    def configure_model(self) -> None:
        """Create the averages and the augmentation; called before weights are loaded or training begins."""
        super().configure_model()
        if self.engine.augment != "none" and self.augmentation is None:
            adaptive = self.engine.augment == "ada"
            self.augmentation = Augmentation(
                self.engine.augment_policies.split(","),
                self.engine.augment_target if adaptive else None,
                self.engine.augment_images,
            )

    def on_fit_start(self) -> None:
        """Pair players with optimizers.

        Raises:
            TypeError: the optimizers do not match the players, or a scheduler waits for a plateau; both are mistakes of
                the model's author.
        """
        super().on_fit_start()
        if len(self.trainer.optimizers) != len(self.players):
            raise TypeError(
                f"{type(self).__name__} has {len(self.players)} players {self.players} but configure_optimizers "
                f"returned {len(self.trainer.optimizers)} optimizers"
            )
        if any(isinstance(config.scheduler, ReduceLROnPlateau) for config in self.trainer.lr_scheduler_configs):
            raise TypeError(f"{type(self).__name__} uses ReduceLROnPlateau, but adversarial losses have no plateau")
        for name, optimizer in zip(self.players, self.trainer.optimizers, strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
            self._table[name] = Player(name, getattr(self, name), optimizer, parameters)
        for player in self._table.values():
            player.others = [other for other in self._table.values() if other is not player]
        # Read once: looking up the trainer's settings is slow.
        self._scaler, self._world_size = getattr(self.trainer.precision_plugin, "scaler", None), self.trainer.world_size
        self._plain_backward, self._now = backward_is_plain(self), -1
        self._guard = LateGuard() if waits(self.device) else None
        if self.augmentation is not None:
            self._place_augmentation(self.augmentation)

    def on_train_start(self) -> None:
        """Prepare the optimizers, whose state has been loaded by now, to skip updates on the device."""
        super().on_train_start()
        for player in self._table.values():
            if self._guard is not None:
                use_fused(player.optimizer)
            player.update = update_of(player, self._scaler, self._guard)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Run the model's step over the batch, in micro-batches where the engine asks for them."""
        self._now = int(self.trainer.global_step)
        layout = self._layout(batch)
        parts = split(batch, self.engine.micro_batches, self.group_size)
        if len(parts) == 1:
            weight = layout.count * self._world_size / layout.total
            self._run(batch, Window(weight=weight, start=layout.start, total=layout.total))
        else:
            self._run_parts(parts, layout)
        self._finish_step()

    def on_train_epoch_end(self) -> None:
        """Step the schedulers that count epochs if the length of an epoch is not known in advance."""
        if self.trainer.num_training_batches == float("inf"):
            self._step_schedulers("epoch", self.trainer.current_epoch + 1)

    def on_train_end(self) -> None:
        """Find out whether the last updates were skipped.

        Raises:
            UserError: a gradient was not finite.
        """
        if self._guard is not None:
            self._guard.settle()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the record, unless the run is about to stop because of a non-finite gradient.

        Raises:
            UserError: a gradient was not finite.
        """
        if self._guard is not None:
            self._guard.settle()
        super().on_save_checkpoint(checkpoint)

    def provenance(self) -> dict[str, Any]:
        """Add all settings of the engine to the record."""
        return {**super().provenance(), "engine": plain(self.engine, "engine")}

    # ---- the engine

    def _follow_optimizers(self) -> list[RemovableHandle]:
        """Do nothing: `_finish_step` updates the averages once per batch, however many updates it has."""
        return []

    def _run(self, batch: Any, window: Window) -> int:
        """Run the model's step in a window; return the number of updates that it requested."""
        self._window = window
        # Every update sees the same dropout mask on a micro-batch, as in one pass over the whole batch.
        seed_everywhere(run_seed(), self.step, window.start)
        self.adversarial_step(batch)
        return window.updates

    def _run_parts(self, parts: list[Any], layout: BatchLayout) -> None:
        """Finish each update over all micro-batches before the next update starts."""
        live, updates = 0, 1
        while live < updates:
            start = layout.start
            for number, part in enumerate(parts):
                size = batch_size(part)
                first, last = number == 0, number == len(parts) - 1
                weight = size * self._world_size / layout.total
                updates = self._run(part, Window(live, first, last, weight, start, layout.total))
                start += size
            live += 1

    def _descend(self, player: Player, loss: Callable[[], Tensor], name: str) -> None:
        window = self._window
        with only(player):
            if window.first:
                player.forget()
            value = loss()
            self.record(f"{name}_loss", value)
            self._backward(value if window.weight == 1.0 else value * window.weight)
            if window.last:
                sum_ = joint_sum(self.trainer.strategy) if self._world_size > 1 else None
                player.step(self.engine, value, self._now, sum_=sum_)
                player.forget()

    def _backward(self, loss: Tensor) -> None:
        scaler = self._scaler
        with without_autocast(loss.device):
            if not self._plain_backward:
                self.manual_backward(loss)
            elif scaler is None:
                loss.backward()
            else:
                scaler.scale(loss).backward()

    def _finish_step(self) -> None:
        """Do what is done once per batch: update the scaler, schedulers, averages and the step count."""
        if self._scaler is not None and any(player.updated_in == self.step for player in self._table.values()):
            self._scaler.update()
        if self._guard is not None:
            self._guard.end_step()
        self._update_averages(*self._moving)
        if self.augmentation is not None:
            judges = [player for name, player in self._table.items() if name in self.judges]
            updated = any(player.updated_in == self.step for player in judges)
            self.augmentation.finish_step(self.step, self._window.total, self.sum_over_processes, updated=updated)
            self.record("augment_probability", self.augmentation.probability.clone())
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        progress.increment_ready()
        progress.increment_completed()
        self._now = -1
        self._step_schedulers("step", self.step)
        # Not in the hook at an epoch's end, which is not called again when a run resumes from its last batch.
        epoch, rest = divmod(self.step, self.trainer.num_training_batches)
        if rest == 0:
            self._step_schedulers("epoch", int(epoch))

    @property
    def judges(self) -> list[str]:
        """Attribute names of the networks that judge images."""
        if self.discriminators is not None:
            return list(self.discriminators)
        return [name for name in self.players if name.startswith("discriminator")]

    def _place_augmentation(self, augmentation: Augmentation) -> None:
        """Make the discriminators see augmented images while players are updated."""
        if not self.judges:
            raise UserError(f"{type(self).__name__} has no discriminator to augment.", "Leave engine.augment out.")
        for hook in self._hooks:
            hook.remove()
        augment = augmenting_hook(augmentation, self.uniform, lambda: self._window.site > 0)
        self._hooks = [getattr(self, name).register_forward_pre_hook(augment) for name in self.judges]

    def _step_schedulers(self, interval: str, count: int) -> None:
        for config in self.trainer.lr_scheduler_configs:
            if config.interval == interval and count % config.frequency == 0:
                scheduler: LRScheduler = config.scheduler
                with _before_any_update() if scheduler.last_epoch == 0 else nullcontext():
                    scheduler.step()


@contextmanager
def _before_any_update() -> Iterator[None]:
    """Silence torch's warning that the optimizer comes first: schedules count batches, and a player may skip some."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*`lr_scheduler.step\\(\\)` before `optimizer.step.*")
        yield
