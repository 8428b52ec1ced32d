"""Callbacks that act when a training step is over.

Lightning calls the model's `on_train_batch_end` after those of all callbacks. What a callback saves in its own lacks
what the model changes there, so the run that resumes from it differs.
"""

from typing import Any

import lightning.pytorch as pl

_HOOK = "on_train_batch_end"


class AfterStep(pl.Callback):
    """Base of callbacks that act after every hook of a training step, the model's own included.

    With accumulated gradients a step ends with the batch at which the optimizer moves: in between, a checkpoint would
    lack the gradients. A subclass that overrides `on_train_start`, `on_exception` or `teardown` must also call the
    method of this class.
    """

    _step_before = -1

    def after_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Act; yours."""
        raise NotImplementedError

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Follow the model's hook, the last that Lightning calls for a batch."""
        hook = pl_module.on_train_batch_end
        self._step_before = trainer.global_step

        def followed(*args: Any, **kwargs: Any) -> None:
            hook(*args, **kwargs)
            step = trainer.global_step
            if trainer.accumulate_grad_batches == 1 or step > self._step_before:
                self._step_before = step
                self.after_step(trainer, pl_module)

        pl_module.__dict__[_HOOK] = followed

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the model as it was."""
        pl_module.__dict__.pop(_HOOK, None)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the model as it was."""
        pl_module.__dict__.pop(_HOOK, None)
