"""What `aigc fit` adds to a run with a guarantee of privacy."""

from pathlib import Path

from lightning.pytorch import Callback

from aigc_lightning.callbacks.private_training import PrivateTraining, secret_of
from aigc_lightning.core.privacy.settings import Privacy
from aigc_lightning.data.base import ImageDataModule


def callbacks(settings: Privacy, data: ImageDataModule, folder: Path) -> list[Callback]:
    """Let the data come in Poisson batches, and return the callback that trains privately; none without privacy.

    Args:
        settings: of the guarantee.
        data: of the run.
        folder: of the run, which keeps its secret.
    """
    if settings.epsilon is None:
        return []
    data.private_secret = secret_of(folder)
    return [PrivateTraining(settings, data.private_secret)]
