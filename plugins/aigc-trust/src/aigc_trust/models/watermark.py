"""An invisible watermark: an encoder that writes a payload into images, and a decoder that reads it.

Papers: Zhu et al., HiDDeN, ECCV 2018, https://arxiv.org/abs/1807.09937 (encoder and decoder trained together, through
what happens to pictures); Miller et al., IEEE Transactions on Image Processing 2004 (an encoder that knows the
decoder); Bui et al., TrustMark, https://arxiv.org/abs/2311.18297 (images of any size by scaling the change).
Departures: the change has a fixed power instead of a loss; the encoder is a sum of learned patterns.
Shapes: B batch, C channels, H and W height and width in pixels, N coded bits. Images lie in [-1, 1].
"""

from typing import Any

import torch
from aigc_lightning import ImageModel, ImageSpec, UserError
from aigc_lightning.core import keyed
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.run.seed import run_seed
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from aigc_trust.attacks import TRAINING, jpeg, rounded, scaled
from aigc_trust.code import FALSE_POSITIVE_RATE, Reading, decode, encode, num_coded
from aigc_trust.networks import Decoder, Encoder, initialize, normalized, resized, scaled_to

_LEAST_SIDE = 32
_ATTACK, _STRENGTH = 0x57A7, 0x57A8  # numbers drawn in a step for the whole batch


class Watermark(ImageModel):
    """Writes 16 to 64 bits into images of 32 pixels and more, and reads them again.

    Held-out images give `val/bits` (share of coded bits read correctly), `val/bits_jpeg75`, `val/bits_half` and
    `val/psnr` (dB).

    Args:
        spec: format of the images; declared by the data.
        payload_bits: number of bits that pictures carry.
        psnr: of a marked image against the original, in dB; clipping makes it higher.
        side: height and width to which images are reduced for both networks.
        width: channels of the decoder.
        rounds: how often the encoder corrects what the decoder reads.
        lr: peak Adam learning rate.
        warmup_steps: batches of linear warm-up.
        schedule_steps: batches until the learning rate is 0 again; None keeps it.

    Raises:
        UserError: the images are smaller than 32 pixels, or an argument is out of range.
    """

    aigc_api = 1
    channels = (1, 3)
    monitor, monitor_mode = "val/bits_jpeg75", "max"
    false_positive_rate = FALSE_POSITIVE_RATE

    def __init__(
        self,
        spec: ImageSpec,
        payload_bits: int = 16,
        psnr: float = 38.2,
        side: int = 32,
        width: int = 16,
        rounds: int = 3,
        lr: float = 3e-3,
        warmup_steps: int = 50,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if min(spec.height, spec.width, side) < _LEAST_SIDE:
            raise UserError(
                f"Watermarks need at least {_LEAST_SIDE} pixels; the data is {spec}, and side is {side}.",
                f"Set data.size and model.side to {_LEAST_SIDE} or more.",
            )
        if not 16 <= payload_bits <= 64:
            raise UserError(f"payload_bits is {payload_bits}.", "Give 16 to 64.")
        self.payload_bits, self.psnr, self.side = payload_bits, psnr, side
        self.lr, self.warmup_steps, self.schedule_steps = lr, warmup_steps, schedule_steps
        count = num_coded(payload_bits)
        self.encoder = Encoder(spec.channels, side, count, rounds)
        self.decoder = Decoder(spec.channels, side, count, width)
        initialize(self.encoder, self.decoder, self._strength)

    # ---- inference

    def mark(self, images: Tensor, payload: int) -> Tensor:
        """Return images (B, C, H, W) of any size from 32 pixels up, with a payload in them.

        Raises:
            UserError: they are smaller, or the payload has too many bits.
        """
        if min(images.shape[-2:]) < _LEAST_SIDE:
            what = f"Images of {images.shape[-1]}x{images.shape[-2]} pixels are too small for a watermark."
            raise UserError(what, f"Give at least {_LEAST_SIDE}x{_LEAST_SIDE}.")
        if not 0 <= payload < 1 << self.payload_bits:
            raise UserError(f"The payload {payload} has more than {self.payload_bits} bits.", "Give a smaller one.")
        word = torch.from_numpy(encode(payload, self.payload_bits)).float().to(self.device)
        with self.inference():
            marked: Tensor = self(images.to(self.device), word.expand(len(images), -1)).clamp(-1, 1)
        return marked

    def read(self, images: Tensor) -> list[Reading]:
        """Return what is read from each of the images (B, C, H, W) of any size."""
        with self.inference():
            logits = self.logits(images.to(self.device))
        return [decode(row, self.payload_bits) for row in logits.cpu().numpy()]

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (B, N) of the coded bits."""
        found: Tensor = self.decoder(resized(images, self.side, self.side))
        return found

    @property
    def _strength(self) -> float:
        """Root mean square of the change, in units of images."""
        return float(2 * 10 ** (-self.psnr / 20))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return logits (B, N) of the coded bits of a batch."""
        with self.inference():
            return self.logits(batch["image"])

    # ---- training

    def forward(self, images: Tensor, bits: Tensor) -> Tensor:
        """Return images (B, C, H, W) with coded bits (B, N) of +1 and -1 in them, not clipped."""
        change = self.encoder(resized(images, self.side, self.side), bits, self.decoder, self._strength)
        return images + scaled_to(self._strength, normalized(resized(change, *images.shape[-2:])), images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the cross entropy of the bits after a random attack, one for the whole batch."""
        images = batch["image"]
        bits = self.uniform(len(images), self.decoder.last.out_features).round() * 2 - 1
        which, strength = (float(keyed.uniform(run_seed(), self.step, number)) for number in (_ATTACK, _STRENGTH))
        marked, noise = rounded(self(images, bits)), self.noise(*images.shape)
        attacked = TRAINING[int(which * len(TRAINING))](marked, strength, noise)
        loss = functional.softplus(-bits * self.logits(attacked)).mean()
        self.record("loss", loss)
        return loss * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score how many bits of held-out images are read correctly."""
        images = batch["image"]
        count = self.decoder.last.out_features
        words = torch.stack([_random_word(int(index), count) for index in batch["index"]]).to(images)
        with self.inference():
            marked = rounded(self(images, words))
            attacked = {"bits": marked, "bits_jpeg75": jpeg(marked, 75), "bits_half": scaled(marked, 0.5)}
            for name, result in attacked.items():
                self.log_held_out(name, (self.logits(result) * words > 0).float().mean(dim=1))
        error = (marked - images).square().mean(dim=(1, 2, 3)) / 4
        self.log_held_out("psnr", -10 * error.log10())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return Adam and its schedule, stepped per batch."""
        optimizer = Adam(self.parameters(), lr=self.lr)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _random_word(seed: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count,), generator=generator) * 2.0 - 1
