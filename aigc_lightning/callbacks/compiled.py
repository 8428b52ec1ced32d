"""Compilation of networks, cached between runs."""

import os
import shutil
import sys

import lightning.pytorch as pl
from torch import nn

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.memory.sharding import callable_networks
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.assets import cache_folder

#: The variable that names torch's folder for compiled code.
FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


class Compiled(pl.Callback):
    """Compiles the trained networks in place; names and values of their weights stay as they are.

    A network is compiled when it first receives a batch of a new shape; the code is kept in the user's cache.

    Raises:
        UserError: there is no C++ compiler.
    """

    def __init__(self) -> None:
        name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        if shutil.which(name) is None:
            raise UserError(
                f"--compile needs a C++ compiler, but {name} was not found.",
                "Install one (Debian, Ubuntu: apt install g++), name yours in CXX, or leave --compile out.",
            )
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir  # private, so imported only if needed

        if os.environ.get(FOLDER_VARIABLE) in (None, default_cache_dir()):  # torch fills it in when it is imported
            os.environ[FOLDER_VARIABLE] = str(cache_folder() / "compiled")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile, now that the averages exist and the processes are running.

        Raises:
            UserError: there is no network.
        """
        found = networks(pl_module)
        if not found:
            raise UserError(f"--compile finds no network in {type(pl_module).__name__}.", "Leave it out.")
        for network in found.values():
            network.compile()


def networks(model: pl.LightningModule) -> dict[str, nn.Module]:
    """Return the networks that are trained, by name: a whole step is Python and would be cut to pieces."""
    found = callable_networks(model)
    if isinstance(model, AdversarialModel):
        found = {key: found[key] for name in model.players for key in found if key.partition(".")[0] == name}
    return {name: network for name, network in found.items() if any(p.requires_grad for p in network.parameters())}
