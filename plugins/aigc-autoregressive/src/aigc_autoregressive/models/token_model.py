"""What `image_gpt`, `maskgit` and `var` have in common: tokens, conditions, drawing, completion and training.

Shapes: B batch, C channels, H and W height and width in pixels, h and w rows and columns of tokens, N tokens of an
image, K classes. Images lie in [-1, 1].
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.batch import check_needs
from aigc_lightning.core.component import check_encoder, embedded
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import MOST_LAYERS, check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.words import byte_words
from aigc_lightning.errors import UserError
from aigc_lightning.networks.byte_encoder import ByteEncoder
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW

from aigc_autoregressive.models.token_maps import TokenMaps, make_token_maps
from aigc_autoregressive.transformers.attention import Attention
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.conditioning import OPEN, Condition
from aigc_autoregressive.transformers.sampling import Known

ConditionName = Literal["none", "labels", "prompts"]
_MASKS = 1  # key of the draws for held-out images


class TokenModel(ImageModel):
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

    averaged_networks = ("network",)
    monitor = "val/loss"
    keeps_unmasked: ClassVar[bool] = True
    #: Random numbers that the loss of a sample needs, apart from those of layers.
    draws_of_loss: int = 0
    network: Conditioned

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

    @abstractmethod
    def run(self, network: Conditioned, tokens: Tensor, condition: Condition) -> None:
        """Run the transformer on tokens (B, N) with a condition."""

    def known_options(self, images: Tensor) -> dict[str, Any]:
        """Return what `draw` needs of images (B, C, H, W) that are given in part, apart from their tokens."""
        return {}

    # ---- inference

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the middle block's features over all tokens, float (B, width), of images (B, C, H, W).

        Source: Chen et al., Image GPT, ICML 2020, section 3.2: features are best in the middle of the network.
        """
        blocks = self._blocks
        found: list[Tensor] = []
        handle = blocks[(len(blocks) - 1) // 2].register_forward_hook(
            lambda block, inputs, output: found.append(output)
        )
        try:
            self._look_at(images)
        finally:
            handle.remove()
        return found[0][:, -self.maps.num_tokens :].float().mean(1)

    @property
    def attention_grid(self) -> tuple[int, int]:
        """Rows and columns of the finest token map, in which the channels of a pixel stand side by side."""
        rows, columns = self.maps.grids[-1]
        return rows, columns * self.maps.channels

    def attention_maps(
        self, images: Tensor, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return the attention weights of each block, float (B, heads, queries, keys), for images (B, C, H, W).

        The last tokens are those of the image, in their order; before them there is what stands for the condition, a
        text first.

        Args:
            images: in [-1, 1].
            labels: the class of each image, for models with classes; left open by default.
            prompts: the text of each image, for models with prompts; left open by default.

        Raises:
            UserError: a condition is given that the model was not trained with.
        """
        if labels is not None and not self.num_classes:
            raise UserError("This model was trained without classes.", "Leave labels out.")
        is_open = labels is None and prompts is None
        condition = OPEN if is_open else self._condition(labels, prompts, 1.0)
        attentions = [part for block in self._blocks for part in block.modules() if isinstance(part, Attention)]
        for attention in attentions:
            attention.seen = []
        try:
            self._look_at(images, condition)
            return {f"block_{place}": (part.seen or [])[0].float() for place, part in enumerate(attentions)}
        finally:
            for attention in attentions:
                attention.seen = None

    def word_keys(self, prompt: str) -> list[tuple[str, range]]:
        """Return the words of a prompt, each with the numbers of its bytes in the keys of `attention_maps`."""
        return byte_words(prompt, first=1)  # after the token with which a text starts

    def tokens(self, images: Tensor) -> Tensor:
        """Return the tokens of images (B, C, H, W), int64 (B, N).

        Raises:
            UserError: the images differ in size from those of training.
        """
        if images.shape[1:] != torch.Size(self.spec.shape):
            raise UserError(
                f"This model was trained on images of {self.spec}, but got {images.shape[-2]}x{images.shape[-1]}.",
                "Resize them first.",
            )
        return self.maps.tokens(images.to(self.device))

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

    @property
    def has_guidance(self) -> bool:
        """Whether it is trained with and without condition."""
        return self.condition_name != "none" and self.condition_dropout > 0

    # ---- parts

    @property
    def _averaged(self) -> Conditioned:
        network: Any = self.averaged("network")
        return network  # type: ignore[no-any-return]

    @property
    def _transformer(self) -> Any:
        return self._averaged.transformer

    @property
    def _blocks(self) -> nn.ModuleList:
        blocks: nn.ModuleList = self._transformer.blocks
        return blocks

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

    def _look_at(self, images: Tensor, condition: Condition = OPEN) -> None:
        with self.inference():
            self.run(self._averaged, self.tokens(images), condition)

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

    def _condition(self, labels: Sequence[int] | None, prompts: Sequence[str] | None, guidance: float) -> Condition:
        """Return what is asked for, checked; without labels and prompts it is left open."""
        if prompts is not None and self.condition_name != "prompts":
            raise UserError("This model was trained without prompts.", "Leave prompts out.")
        is_open = labels is None and prompts is None
        if guidance != 1 and not self.has_guidance:
            raise UserError(
                "This model has no guidance: it was trained without classes and prompts, or never without them.",
                "Leave guidance out, or train with model.conditions and model.condition_dropout.",
            )
        if guidance != 1 and is_open:
            raise UserError(f"guidance is {guidance}, but there is nothing for it to strengthen.", "Leave it out.")
        if is_open and self.condition_name != "none" and not self.condition_dropout:
            raise UserError(f"This model was never trained without {self.condition_name}.", "Give them.")
        if is_open:
            return OPEN
        numbers = None if labels is None else torch.tensor(list(labels), device=self.device)
        with self.inference():
            return self._averaged.condition(numbers, prompts)


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
