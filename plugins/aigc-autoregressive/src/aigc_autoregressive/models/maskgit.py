"""MaskGIT: a bidirectional transformer over a tokenizer's codes or over pixels, which draws many tokens at a time.

Paper: Chang et al., MaskGIT: Masked Generative Image Transformer, CVPR 2022, https://arxiv.org/abs/2202.04200
Departures from the paper: see `transformers/maskgit.py`; AdamW with cosine decay; the defaults are small enough for two
processor cores.
Shapes: B batch, C channels, H and W height and width in pixels, N tokens of an image, K classes. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from typing import Any

import torch
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_autoregressive.exporting import token_graphs
from aigc_autoregressive.models.token_features import ConditionName
from aigc_autoregressive.models.token_model import TokenModel, check_size, context_of
from aigc_autoregressive.transformers.choice import Choice
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.maskgit import Block, MaskGIT, masked_loss, training_mask
from aigc_autoregressive.transformers.sampling import Known, sample_maskgit


class MaskGITModel(TokenModel):
    """MaskGIT: images drawn in a few steps of many tokens each, and inpainting, by class or prompt.

    Held-out images give `val/loss`, the cross-entropy of masked tokens in nats, without label smoothing.

    Args:
        spec: format of the images; declared by the data.
        tokenizer: run, checkpoint or address of a `vqgan` with one token map; its weights become part of the
            checkpoints. None works on pixels.
        num_levels: values that a number of an image can have, without a tokenizer: 256, or fewer for images that have
            only as many, equally spaced.
        conditions: what generation is controlled by: "none", "labels" (the data's classes) or "prompts" (its captions).
        text_options: arguments of the text encoder, a transformer over bytes, for conditions "prompts": {"size": 128,
            "depth": 3, "heads": 4, "max_length": 96}.
        condition_dropout: share of the samples that are trained without the condition, for guidance and for editing.
        width: features of a token.
        depth: number of blocks.
        num_heads: of the attention.
        dropout: probability, after embeddings, attention and MLP.
        label_smoothing: share of the target that is spread over all codes.
        lr: peak AdamW learning rate.
        beta2: AdamW's second decay rate.
        weight_decay: of AdamW, for matrices.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data or the tokenizer does not suit the model, or an argument is out of range.
    """

    aigc_api = 1
    block_classes = (Block,)

    def __init__(
        self,
        spec: ImageSpec,
        tokenizer: str | None = None,
        num_levels: int = 256,
        conditions: ConditionName = "none",
        text_options: dict[str, int] | None = None,
        condition_dropout: float = 0.1,
        width: int = 128,
        depth: int = 4,
        num_heads: int = 4,
        dropout: float = 0.0,
        label_smoothing: float = 0.1,
        lr: float = 1e-3,
        beta2: float = 0.95,
        weight_decay: float = 0.05,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        optimizer = (lr, beta2, weight_decay, warmup_steps, schedule_steps)
        super().__init__(spec, tokenizer, num_levels, conditions, text_options, condition_dropout, *optimizer)
        check_size(width, depth, num_heads, dropout)
        if len(self.maps.grids) > 1:
            raise UserError(
                "The tokenizer is one of several scales.", "Use var, or train vqgan with another quantizer."
            )
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing is {label_smoothing}.", "Give a number from 0 to below 1.")
        self.label_smoothing, self.draws_of_loss = label_smoothing, 1 + self.maps.num_tokens
        text = self._text_encoder(text_options)
        transformer = MaskGIT(
            self.maps.num_codes,
            self.maps.num_tokens,
            width=width,
            depth=depth,
            num_heads=num_heads,
            dropout=dropout,
            num_classes=self.num_classes,
            **context_of(text),
        )
        self.network = Conditioned(transformer, text, width)

    def sample(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        steps: int = 8,
        choice_temperature: float = 4.5,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged network.

        Args:
            seeds: non-negative.
            labels: the class of each image, for models with classes; by default seed mod K, so that neighbouring seeds
                show all classes.
            prompts: the text of each image, for models with prompts; none by default.
            steps: in each, all tokens that are missing are drawn and the most confident ones stay.
            choice_temperature: of the noise on the confidences, which falls to 0 over the steps; 0 is no noise.
            guidance: strength of class or prompt; 1 is none.
            temperature: below 1 draws likelier tokens, 0 the likeliest; 1 draws from what was learned.
            top_k: draw only from this many of the likeliest tokens; 0 for all.
            top_p: draw only from the likeliest tokens that together have this probability; 1 for all.

        Raises:
            UserError: an option is out of range, or a condition is given that the model was not trained with.
        """
        options = _options(steps, choice_temperature, guidance, Choice(temperature, top_k, top_p))
        return self._sampled(seeds, labels, prompts, **options)

    def edit(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        *,
        steps: int = 8,
        choice_temperature: float = 4.5,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        """Return completed images, (B, C, H, W) in [-1, 1]: what is in the mask is drawn, other pixels stay exactly.

        Tokens are drawn given all others.

        Args:
            images: (B, C, H, W) in [-1, 1].
            masks: (B, 1, H, W), 1 where something is to be drawn; the lower half by default.
            prompts: the text of each image, for models with prompts.
            seeds: for variants, one per image; 0 for all by default.
            steps: see `sample`.
            choice_temperature: see `sample`.
            guidance: strength of the prompt; 1 is none.
            temperature: see `sample`.
            top_k: see `sample`.
            top_p: see `sample`.

        Raises:
            UserError: the images differ in size from those of training, or an option is out of range.
        """
        options = _options(steps, choice_temperature, guidance, Choice(temperature, top_k, top_p))
        return self._completed(images, masks, prompts, seeds, **options)

    def losses(self, network: Conditioned, tokens: Tensor, condition: Condition, draws: Tensor) -> Tensor:
        """Return the loss of each sample, (B,), in nats: see `masked_loss`."""
        transformer: Any = network.transformer
        masked = training_mask(draws[:, 0], draws[:, 1:])
        logits = transformer(tokens.masked_fill(masked, transformer.mask_token), condition)
        return masked_loss(logits, tokens, masked, self.label_smoothing if network.training else 0.0)

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return `predict`, the logits of each token by those not masked, and what is not exported and why."""

        def logits(tokens: Tensor, shown: Condition) -> Tensor:
            if shown.labels is not None:  # here the number of an open class is -1
                shown = Condition(labels=torch.where(shown.labels < self.num_classes, shown.labels, -1))
            found: Tensor = self._transformer(tokens, shown)
            return found

        return token_graphs(self, "confidence", logits)

    def draw(self, seeds: Sequence[int], condition: Condition, known: Known | None, **options: Any) -> Tensor:
        """See `TokenModel`."""
        return sample_maskgit(self._transformer, seeds, condition, known=known, **options)

    def run(self, network: Conditioned, tokens: Tensor, condition: Condition) -> None:
        """See `TokenModel`."""
        transformer: Any = network.transformer
        transformer.features(tokens, condition)


def _options(steps: int, choice_temperature: float, guidance: float, choice: Choice) -> dict[str, Any]:
    if steps < 1:
        raise UserError(f"steps is {steps}.", "Give at least 1.")
    if choice_temperature < 0:
        raise UserError(f"choice_temperature is {choice_temperature}.", "Give 0 or more.")
    return {"steps": steps, "choice_temperature": choice_temperature, "guidance": guidance, "choice": choice}
