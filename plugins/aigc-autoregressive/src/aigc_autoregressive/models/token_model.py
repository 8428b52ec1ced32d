"""What `image_gpt`, `maskgit` and `var` have in common: drawing, completion and training.

Shapes: B batch, C channels, H and W height and width in pixels, h and w rows and columns of tokens, N tokens of an
image, K classes. Images lie in [-1, 1].
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.batch import check_needs
from aigc_lightning.core.component import check_encoder, embedded
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.networks.byte_encoder import ByteEncoder
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW

from aigc_autoregressive.models.token_features import ConditionName, TokenFeatures
from aigc_autoregressive.models.token_maps import TokenMaps, make_token_maps
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.sampling import Known

_MASKS = 1  # key of the draws for held-out images


class TokenModel(TokenFeatures):
    """Base class of the transformers over tokens; a subclass builds the transformer.

    Args:
        spec: format of the images; declared by the data.
        tokenizer: run, checkpoint or address of a `vqgan`; None for the levels of pixels.
        num_levels: values that a number of an image can have, without a tokenizer.
        conditions: "none", "labels" or "prompts".
        text_options: arguments of `ByteEncoder`.
        condition_dropout: share of the samples that are trained without condition.
        lr: peak AdamW learning rate.
        beta2: AdamW's second decay rate.
        weight_decay: of AdamW, for matrices.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again; None keeps it.

    Raises:
        UserError: the data or the tokenizer does not suit the model, or an argument is out of range.
    """

    monitor = "val/loss"
    keeps_unmasked: ClassVar[bool] = True
    #: Random numbers that the loss of a sample needs, apart from those of layers.
    draws_of_loss: int = 0

    def __init__(
        self,
        spec: ImageSpec,
        tokenizer: str | None,
        num_levels: int,
        conditions: ConditionName,
        text_options: dict[str, int] | None,
        condition_dropout: float,
        lr: float,
        beta2: float,
        weight_decay: float,
        warmup_steps: int,
        schedule_steps: int | None,
    ) -> None:
        super().__init__(spec)
        _check_data(spec, conditions, text_options, condition_dropout)
        check_numbers(lr=lr, schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, warmup_steps=warmup_steps, weight_decay=weight_decay)
        if not 0 <= beta2 < 1:
            raise UserError(f"model.beta2 is {beta2}.", "Give a number of at least 0 and below 1.")
        self.tokenizer = None if tokenizer is None else embedded(self, "tokenizer", tokenizer)
        self.encoded_keys = () if tokenizer is None else ("tokens",)
        self.maps: TokenMaps = make_token_maps(spec, self.tokenizer, num_levels)
        self.without_conditions = tuple({"labels", "prompts"} - {conditions})
        self.condition_name, self.condition_dropout = conditions, condition_dropout
        self.num_classes = spec.num_classes if conditions == "labels" else 0
        self.lr, self.beta2, self.weight_decay = lr, beta2, weight_decay
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps

    # ---- for subclasses

    @abstractmethod
    def losses(self, network: Conditioned, tokens: Tensor, condition: Condition, draws: Tensor) -> Tensor:
        """Return the loss of each sample, (B,), in nats per token.

        Args:
            network: the trained or the averaged one.
            tokens: int64 (B, N).
            condition: of the batch.
            draws: numbers in [0, 1), (B, `draws_of_loss`).
        """

    @abstractmethod
    def draw(self, seeds: Sequence[int], condition: Condition, known: Known | None, **options: Any) -> Tensor:
        """Return tokens (B, N) from the averaged network.

        Args:
            seeds: B numbers.
            condition: of the batch.
            known: tokens that are given.
            **options: `guidance`, `choice`, and those of the model's own.
        """

    def known_options(self, images: Tensor) -> dict[str, Any]:
        """Return what `draw` needs of images (B, C, H, W) that are given in part, apart from their tokens."""
        return {}

    # ---- training

    def on_fit_start(self) -> None:
        """Check that encoded data was encoded by this model's tokenizer.

        Raises:
            UserError: it was encoded by another one.
        """
        check_encoder(self, "tokenizer")
        super().on_fit_start()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        tokens = batch["tokens"] if "tokens" in batch else self.tokens(batch["image"])
        count = len(tokens)
        dropped = self.uniform(count) < self.condition_dropout if self.has_guidance else None
        condition = self._of_batch(self.network, batch, dropped)
        loss = self.losses(self.network, tokens, condition, self.uniform(count, self.draws_of_loss)).mean()
        self.record("loss", loss.detach())
        return loss * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Record the losses of held-out images under the averaged network, with draws that depend on the sample."""
        places = torch.arange(self.draws_of_loss).numpy()
        draws = torch.from_numpy(keyed.uniform(batch["index"].cpu().numpy()[:, None], _MASKS, places))
        with self.inference():
            tokens, network = self.tokens(batch["image"]), self._averaged
            losses = self.losses(network, tokens, self._of_batch(network, batch), draws.float().to(self.device))
        self.log_held_out("loss", losses)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW, whose weight decay acts on matrices alone, and its schedule, stepped per batch."""
        parameters = list(self.network.parameters())
        groups = [
            {"params": [part for part in parameters if part.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [part for part in parameters if part.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=self.lr, betas=(0.9, self.beta2), fused=True)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- parts

    def _text_encoder(self, options: dict[str, int] | None) -> ByteEncoder | None:
        if self.condition_name != "prompts":
            return None
        try:
            return ByteEncoder(**(options or {}))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"The text encoder cannot be built: {error}.",
                "model.text_options takes size, depth, heads and max_length; a checkpoint with others needs the "
                "version of the package that wrote it.",
            ) from error

    def _of_batch(self, network: Conditioned, batch: Any, dropped: Tensor | None = None) -> Condition:
        labels = batch["label"] if self.num_classes else None
        return network.condition(labels, batch["caption"] if self.condition_name == "prompts" else None, dropped)

    def _sampled(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None,
        prompts: Sequence[str] | None,
        **options: Any,
    ) -> Tensor:
        """Return the images (B, C, H, W) of tokens drawn with the options of `draw`."""
        if labels is not None and not self.num_classes:
            raise UserError("This model was trained without classes.", "Leave labels out.")
        if labels is None and self.num_classes:
            labels = [seed % self.num_classes for seed in seeds]
        condition = self._condition(labels, prompts, options["guidance"])
        with self.inference():
            return self.maps.images(self.draw(seeds, condition, None, **options))

    def _completed(
        self,
        images: Tensor,
        masks: Tensor | None,
        prompts: Sequence[str] | None,
        seeds: Sequence[int] | None,
        **options: Any,
    ) -> Tensor:
        """Return images (B, C, H, W) with drawn tokens where the masks (B, 1, H, W), or the lower halves, are."""
        if masks is None:
            masks = torch.zeros(len(images), 1, *images.shape[2:])
            masks[:, :, images.shape[2] // 2 :] = 1
        images, holes = images.to(self.device), masks.to(self.device) >= 0.5
        filled, kept = _covered(images, holes), ~self.maps.touched(holes)
        for _ in range(self.maps.passes):
            drawn = self._redrawn((self.tokens(filled), kept), prompts, seeds, **self.known_options(filled), **options)
            filled = torch.where(holes, drawn.to(images), images)
        return filled

    def _redrawn(
        self, known: Known, prompts: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any
    ) -> Tensor:
        """Return images (B, C, H, W) of which some tokens are given."""
        condition = self._condition(None, prompts, options["guidance"])
        with self.inference():
            return self.maps.images(
                self.draw([0] * len(known[0]) if seeds is None else seeds, condition, known, **options)
            )


def _covered(images: Tensor, holes: Tensor) -> Tensor:
    """Return images whose holes have the mean colour of the rest, so that tokens know nothing of what was there."""
    rest = (~holes).to(images)
    mean = (images * rest).sum((2, 3), keepdim=True) / rest.sum((2, 3), keepdim=True).clamp_min(1)
    return torch.where(holes, mean, images)


def _check_data(
    spec: ImageSpec, conditions: ConditionName, text_options: dict[str, int] | None, condition_dropout: float
) -> None:
    if spec.task != "generation":
        raise UserError(f"A model of tokens learns from single images; the data are {spec.task}.", "Choose others.")
    needs = {"labels": ["label"], "prompts": ["caption"]}.get(conditions, [])
    check_needs("A model of tokens with such conditions", needs, spec)
    if text_options and conditions != "prompts":
        raise UserError(f'model.text_options acts with conditions "prompts", not "{conditions}".', "Leave it out.")
    if not 0 <= condition_dropout <= 1:
        raise UserError(f"model.condition_dropout is {condition_dropout}.", "Give a number from 0 to 1.")


def check_size(width: int, depth: int, num_heads: int, dropout: float) -> None:
    """Check the size of a transformer.

    Raises:
        UserError: a number is out of range.
    """
    check_numbers(width=width, num_heads=num_heads)
    check_numbers(most=MOST_LAYERS, depth=depth)
    if not 0 <= dropout < 1:
        raise UserError(f"model.dropout is {dropout}.", "Give a number of at least 0 and below 1.")


def context_of(text: ByteEncoder | None) -> dict[str, int]:
    """Return the transformers' arguments that say which context they get."""
    return {} if text is None else {"context_width": text.size, "context_length": text.max_length}
