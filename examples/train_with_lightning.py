"""Training with a plain Lightning Trainer: the model, the data and your own callbacks, without `aigc fit`.

python examples/train_with_lightning.py
"""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from aigc_lightning import load
from aigc_lightning.core.io.pictures import image_grid, to_uint8
from aigc_lightning.data import Digits
from aigc_lightning.models import DCGAN


class DrawSamples(Callback):
    """Write a grid of the same seeds every so many batches.

    Args:
        every: batches between two grids.
        folder: where the grids go.
    """

    def __init__(self, every: int, folder: Path) -> None:
        self.every, self.folder = every, folder

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Draw seeds 0 to 15; one step is one batch, however many networks are updated in it."""
        assert isinstance(pl_module, DCGAN)
        if pl_module.step % self.every == 0:
            grid = image_grid(to_uint8(pl_module.sample(range(16))), columns=4)
            grid.save(self.folder / f"step_{pl_module.step:06d}.png")


def main(steps: int = 2000, out: Path = Path("plain")) -> None:
    """Train a GAN on handwritten digits, and sample from its checkpoint."""
    seed_everything(0)
    data = Digits(size=32, batch_size=64)
    model = DCGAN(data.spec, width=32)  # the data says which images the model makes
    out.mkdir(exist_ok=True)
    trainer = Trainer(
        max_steps=steps * len(model.players),  # Lightning counts updates of networks
        callbacks=[DrawSamples(max(1, steps // 4), out)],
        default_root_dir=out,
        logger=False,
        use_distributed_sampler=False,  # the data distributes its samples itself
    )
    trainer.fit(model, data)
    trainer.save_checkpoint(out / "digits.ckpt")
    print(load(out / "digits.ckpt").sample([0, 1, 2]).shape)


if __name__ == "__main__":
    main()
