"""VQGAN: an image tokenizer.

Papers: Esser et al., Taming Transformers for High-Resolution Image Synthesis, CVPR 2021,
https://arxiv.org/abs/2012.09841; van den Oord et al., NIPS 2017, https://arxiv.org/abs/1711.00937
Departures from the papers: the quantizer is chosen by name; the adversarial loss can be left out; the codebook starts
from k-means; Adam with cosine decay; the defaults are small enough for two processor cores.
Shapes: B batch, C channels, H and W height and width in pixels, N tokens of an image, K codes. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from math import ceil
from typing import Any, ClassVar, Literal, cast

import torch
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.component import refer
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.feature_network import FeatureNetwork
from aigc_lightning.losses import hinge
from aigc_lightning.losses.feature_matching import perceptual
from aigc_lightning.losses.reconstruction import absolute, squared
from aigc_lightning.metrics.pairs import psnr
from aigc_lightning.networks.patchgan import PatchGAN, check_patches
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Adam

from aigc_autoregressive.tokenizers import VQGAN, BatchShare, MultiScaleQuantizer, Quantizer
from aigc_autoregressive.tokenizers.autoencoder import ResidualBlock
from aigc_autoregressive.tokenizers.choice import make_quantizer
from aigc_autoregressive.tokenizers.quantizer import to_vectors
from aigc_autoregressive.tokenizers.usage import counts, dead_codes, perplexity, usage

_PIXEL_LOSSES = {"absolute": absolute, "squared": squared}
_VECTORS_PER_CODE = 32  # with which k-means starts
_MOST_START_IMAGES, _AT_ONCE = 2048, 64


class VQGANModel(AdversarialModel):
    """VQGAN, an image tokenizer: images to a few tokens and back.

    `aigc edit` reconstructs images. Held-out images give `val/psnr` of reconstructions (dB), `val/error` of the pixels,
    and of the codebook `val/codebook_usage` (the share of the codes that occur), `val/perplexity` and `val/dead_codes`.

    Args:
        spec: format of the images; declared by the data.
        quantizer: "vq" (a learned codebook), "fsq" (finite scalar quantization) or "multi_scale" (residuals of token
            maps of growing size, for next-scale models).
        quantizer_options: arguments of the quantizer, such as {"num_codes": 512, "learnt_by": "loss", "gradient":
            "rotation"} for "vq" and {"levels": [8, 5, 5]} for "fsq".
        width: features of the first level.
        multipliers: of the width at each level, each level having half the size of the one before.
        num_blocks: residual blocks of each level.
        attention_levels: levels whose blocks are followed by attention, the first being 0; the middle always has it.
        latent_channels: features between encoder, quantizer and decoder.
        pixel_loss: "absolute" or "squared" error of the pixels.
        feature_network: a run or checkpoint of `cnn`, "vgg16" or "efficientnet_lite0"; needed only in training, and
            only with a weight.
        perceptual_weight: weight of the squared difference in the features of that network.
        adversarial_weight: weight of the loss of a PatchGAN; 0 for none. With an adaptive weight, a factor of it.
        adversarial_start: batches before that loss begins, and with it the training of the PatchGAN.
        adaptive_weight: scale the adversarial loss so that its gradient at the last layer is as large as that of the
            other losses (equation 7).
        discriminator_width: channels of the PatchGAN's first layer.
        discriminator_layers: 1 to judge patches of 16x16 pixels, 2 for 34x34, 3 for 70x70.
        lr: peak Adam learning rate of both networks.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the images' size does not suit the levels, or an argument is out of range.
    """

    aigc_api = 1
    players: ClassVar[tuple[str, ...]] = ("tokenizer",)
    averaged_networks = ("tokenizer",)
    block_classes = (ResidualBlock,)
    monitor = "val/error"

    def __init__(
        self,
        spec: ImageSpec,
        quantizer: Literal["vq", "fsq", "multi_scale"] = "vq",
        quantizer_options: dict[str, Any] | None = None,
        width: int = 16,
        multipliers: Sequence[int] = (1, 2, 2),
        num_blocks: int = 1,
        attention_levels: Sequence[int] = (),
        latent_channels: int = 32,
        pixel_loss: Literal["absolute", "squared"] = "absolute",
        feature_network: str | None = None,
        perceptual_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        adversarial_start: int = 0,
        adaptive_weight: bool = True,
        discriminator_width: int = 32,
        discriminator_layers: int = 2,
        lr: float = 1e-3,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        if spec.task != "generation":
            raise UserError(f"A tokenizer learns from single images; the data are {spec.task}.", "Choose other data.")
        check_numbers(width=width, latent_channels=latent_channels, discriminator_width=discriminator_width, lr=lr)
        check_numbers(most=MOST_LAYERS, num_blocks=num_blocks, multipliers=len(multipliers))
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, warmup_steps=warmup_steps, perceptual_weight=perceptual_weight)
        check_numbers(zero=True, adversarial_weight=adversarial_weight, adversarial_start=adversarial_start)
        for level in attention_levels:
            if level not in range(len(multipliers)):
                hint = f"Levels go from 0 to {len(multipliers) - 1}."
                raise UserError(f"model.attention_levels has {level}, but there is no such level.", hint)
        if perceptual_weight and feature_network is None:
            raise UserError(
                "model.perceptual_weight needs a network that provides the features.",
                "Set model.feature_network to a run of cnn, vgg16 or efficientnet_lite0.",
            )
        self.pixel_loss, self.lr = pixel_loss, lr
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.feature_network, self.perceptual_weight = feature_network, perceptual_weight
        self.features: FeatureNetwork | None = None  # not registered as a sub-module, so not part of this model
        self.adversarial_weight, self.adversarial_start = adversarial_weight, adversarial_start
        self.adaptive_weight = adaptive_weight
        self.tokenizer = VQGAN(
            spec.channels,
            make_quantizer(quantizer, quantizer_options or {}),
            latent_channels,
            width,
            tuple(multipliers),
            num_blocks,
            tuple(attention_levels),
        )
        self.latent_size = self.tokenizer.latent_size(spec.height, spec.width)
        self.num_tokens = self.tokenizer.quantizer.num_tokens(self.latent_size)
        if adversarial_weight:
            check_patches(spec, discriminator_layers)
            self.discriminator = PatchGAN(spec.channels, discriminator_width, discriminator_layers, "group")
            self.players = ("tokenizer", "discriminator")  # type: ignore[misc]  # an instance may have more
        self._seen: list[tuple[Tensor, Tensor]] = []  # vectors and tokens of the batch in hand, by micro-batch
        self._counts: Tensor | None = None  # of the tokens of held-out images

    # ---- inference

    def edit(self, images: Tensor) -> Tensor:
        """Return reconstructions (B, C, H, W) in [-1, 1] of images (B, C, H, W), by the averaged tokenizer."""
        return self.from_tokens(self.tokens(images))

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens of images (B, C, H, W), int64 (B, N).

        Raises:
            UserError: the images differ in size from those of training.
        """
        if images.shape[1:] != torch.Size(self.spec.shape):
            raise UserError(
                f"This tokenizer was trained on images of {self.spec}, but got {images.shape[-2]}x{images.shape[-1]}.",
                "Resize them first.",
            )
        with self.inference():
            return self._averaged.encode(images.to(self._averaged.last_layer)).indices

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] of tokens (B, N)."""
        with self.inference():
            images = self._averaged.decode_tokens(tokens.to(self.device), self.latent_size)
        return images.float().clamp(-1, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Return the latents (B, Z, h, w) of images (B, C, H, W) before they are quantized.

        So that another model can work on them, `decode` quantizes (Rombach et al., Latent Diffusion Models, CVPR 2022,
        https://arxiv.org/abs/2112.10752, section 3.1: the quantization layer is absorbed by the decoder).
        """
        with self.inference():
            return self._averaged.latents(images.to(self._averaged.last_layer)).float()

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] of latents (B, Z, h, w), which are quantized first."""
        with self.inference():
            quantized = self._averaged.quantizer(latents.to(self._averaged.last_layer)).latents
            images = self._averaged.decode(quantized)
        return images.float().clamp(-1, 1)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the reconstructions of a batch."""
        return self.edit(batch["image"])

    # ---- training

    def setup(self, stage: str) -> None:
        """Load the network of the perceptual loss before training starts."""
        if stage == "fit" and self.perceptual_weight:
            self.features = FeatureNetwork(str(self.feature_network))
            refer(self, "feature_network", str(self.feature_network), self.features.sha256)

    def setup_from_data(self, data: Any) -> None:
        """Start the codebook from the encoder's vectors of training images, by k-means."""
        quantizer = self.tokenizer.quantizer
        if quantizer.codebook is None:
            return
        wanted = ceil(_VECTORS_PER_CODE * quantizer.num_codes / self.num_tokens)
        images = data.training_batch(min(max(wanted, _AT_ONCE), _MOST_START_IMAGES))["image"]
        found = []
        for part in images.split(_AT_ONCE):
            latents = self.tokenizer.latents(part.to(self.tokenizer.last_layer))
            if isinstance(quantizer, MultiScaleQuantizer):
                found.append(quantizer.start_vectors(latents))
            else:
                found.append(to_vectors(latents))
        quantizer.codebook.start_from(torch.cat(found).flatten(0, 1))

    def on_fit_start(self) -> None:
        """Refuse micro-batches for the adaptive weight, which compares gradients of a whole batch.

        Raises:
            UserError: batches are split.
        """
        if self.adversarial_weight and self.adaptive_weight and self.engine.micro_batches > 1:
            raise UserError(
                "model.adaptive_weight compares gradients of a whole batch, which engine.micro_batches splits.",
                "Set model.adaptive_weight to false, or leave engine.micro_batches out.",
            )
        super().on_fit_start()

    def adversarial_step(self, batch: Any) -> None:
        """Update the tokenizer and, once the adversarial loss has begun, the discriminator."""
        images = batch["image"]
        self.update("tokenizer", lambda: self.tokenizer_loss(images))
        if self._is_adversarial:
            self.update("discriminator", lambda: self.discriminator_loss(images))

    def tokenizer_loss(self, images: Tensor) -> Tensor:
        """Return the loss of the tokenizer on images (B, C, H, W)."""
        output, quantized = self.tokenizer(images)
        self._seen.append((quantized.vectors, quantized.indices))
        error = _PIXEL_LOSSES[self.pixel_loss](output, images).mean()
        self.record("error", error)
        self.record("commitment", quantized.loss)
        loss = error
        if self.features is not None:
            with torch.no_grad():
                wanted = self.features(images)
            loss = loss + self.perceptual_weight * perceptual(self.features(output), wanted)
        if self._is_adversarial:
            adversarial = hinge.generator(self.discriminator(output))
            self.record("adversarial", adversarial)
            loss = loss + self.adversarial_weight * self._balance(loss, adversarial) * adversarial
        total: Tensor = loss + quantized.loss
        return total

    def discriminator_loss(self, images: Tensor) -> Tensor:
        """Return the loss of the discriminator on images (B, C, H, W) and their reconstructions."""
        with torch.no_grad():
            output, _ = self.tokenizer(images)
        real = self.discriminator(images)
        self.observe_real(real)
        return hinge.discriminator(real, self.discriminator(output))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the codebook, once for the whole batch, and revive dead codes."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        seen, self._seen = self._seen, []
        vectors, indices = (torch.cat(parts) for parts in zip(*seen, strict=True))
        quantizer = self.tokenizer.quantizer
        self.record("perplexity", perplexity(counts(indices, quantizer.num_codes)))
        codebook = quantizer.codebook
        if codebook is not None:
            share = self._batch_share(len(vectors))
            codebook.update(vectors, indices, share)
            revived = codebook.revive(vectors, share)
            if codebook.learnt_by == "loss" and len(revived):
                self._forget_moments(codebook.codes, revived)

    def configure_optimizers(self) -> list[OptimizerLRSchedulerConfig]:
        """Return Adam for each player, and its schedule, stepped per batch."""
        configs: list[OptimizerLRSchedulerConfig] = []
        for name in self.players:
            optimizer = Adam(getattr(self, name).parameters(), lr=self.lr, betas=(0.5, 0.9), fused=True)
            schedule = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
            configs.append({"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}})
        return configs

    # ---- held-out images

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score reconstructions of held-out images, and count their tokens."""
        images = batch["image"]
        tokens = self.tokens(images)
        output = self.from_tokens(tokens)
        self.log_held_out("error", _PIXEL_LOSSES[self.pixel_loss](output, images.float()))
        self.log_held_out("psnr", psnr((output + 1) / 2, (images.float() + 1) / 2))
        found = counts(tokens, self.tokenizer.quantizer.num_codes)
        self._counts = found if self._counts is None else self._counts + found

    def on_validation_epoch_end(self) -> None:
        """Log the means of the scores, and how the codebook is used."""
        super().on_validation_epoch_end()
        found, self._counts = self._counts, None
        if found is None:
            found = torch.zeros(self.tokenizer.quantizer.num_codes, dtype=torch.int64, device=self.device)
        found = self.sum_over_processes(found)
        if found.sum() > 0:
            scores = {"codebook_usage": usage(found), "perplexity": perplexity(found)}
            self.log_scores({name: float(score) for name, score in scores.items()})
            self.log_scores({"dead_codes": float(len(dead_codes(found)))})

    # ---- parts

    @property
    def num_codes(self) -> int:
        """K, of which a token is the number."""
        return self.tokenizer.quantizer.num_codes

    @property
    def quantizer(self) -> Quantizer:
        """The averaged tokenizer's quantizer."""
        return self._averaged.quantizer

    @property
    def _averaged(self) -> VQGAN:
        return cast(VQGAN, self.averaged("tokenizer"))

    @property
    def _is_adversarial(self) -> bool:
        return self.adversarial_weight > 0 and self.step >= self.adversarial_start

    def _balance(self, loss: Tensor, adversarial: Tensor) -> Tensor:
        """Return the ratio of the gradients' lengths at the last layer, in the whole batch, or 1."""
        if not self.adaptive_weight:
            return torch.ones_like(loss)
        layer = self.tokenizer.last_layer
        found = [torch.autograd.grad(part, layer, retain_graph=True)[0] for part in (loss, adversarial)]
        both = self.sum_over_processes(torch.stack(found) * self.share) / self.trainer.world_size
        lengths = both.flatten(1).norm(dim=1)
        weight: Tensor = (lengths[0] / (lengths[1] + 1e-4)).clamp(0, 1e4)
        self.record("adversarial_weight", weight)
        return weight

    def _batch_share(self, count: int) -> BatchShare:
        """Return which part of the batch this process has, of `count` samples."""
        key = (self.step,)
        if self.trainer.world_size == 1:
            return BatchShare(key)
        sizes = torch.zeros(self.trainer.world_size, dtype=torch.int64, device=self.device)
        sizes[self.global_rank] = count
        all_sizes = self.sum_over_processes(sizes).tolist()
        return BatchShare(key, sum(all_sizes[: self.global_rank]), sum(all_sizes), self.sum_over_processes)

    def _forget_moments(self, codes: Tensor, revived: Tensor) -> None:
        state = self.trainer.optimizers[0].state.get(codes, {})
        for name in ("exp_avg", "exp_avg_sq"):
            if name in state:
                state[name][revived] = 0
