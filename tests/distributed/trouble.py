"""Callbacks that make trouble, for the tests of faults."""

import os
import signal

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from aigc_lightning.errors import UserError


class RaiseOnOne(pl.Callback):
    """Raises in the second process at the third batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            raise RuntimeError("trouble on the second process")


class KillOne(pl.Callback):
    """Kills one process, usually the second, without a word at the thirtieth batch."""

    def __init__(self, rank: int = 1):
        self.rank = rank

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == 30:
            os.kill(os.getpid(), signal.SIGKILL)


class HangOne(pl.Callback):
    """Lets the second process wait, out of reach of signals, for what never comes, from the thirtieth batch on."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 30:
            dist.recv(torch.zeros(1), src=0)


class HangLoader(pl.Callback):
    """Stops a loader process at the fifth batch, as a disk does that no longer answers."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 5:
            os.kill(trainer.train_dataloader._iterator._workers[0].pid, signal.SIGSTOP)
            print("stopped a loader", flush=True)


class SignalOne(pl.Callback):
    """Sends a signal to one process alone at the thirtieth batch."""

    def __init__(self, name: str, rank: int):
        self.name, self.rank = name, rank

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == self.rank and trainer.global_step == 30:
            os.kill(os.getpid(), getattr(signal, self.name))


class Drift(pl.Callback):
    """Changes weights by how many batches it has seen in this process: state that no checkpoint holds."""

    def __init__(self):
        self.seen = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen += 1
        for parameter in pl_module.generator.parameters():
            parameter.data.mul_(1 + 0.01 * self.seen)


class MistakeOnOne(pl.Callback):
    """Raises what a user can mend, in the second process at the third batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            raise UserError("a mistake on the second process", "mend it")


class KillLoader(pl.Callback):
    """Kills a loader process of this training process without a word at the fifth batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank == 0 and trainer.global_step == 5:
            os.kill(trainer.train_dataloader._iterator._workers[0].pid, signal.SIGKILL)
