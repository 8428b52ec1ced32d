"""VAR: a transformer over the tokens of a multi-scale tokenizer, which draws all tokens of a scale at once.

Paper: Tian et al., Visual Autoregressive Modeling, NeurIPS 2024, https://arxiv.org/abs/2404.02905
Departures from the paper: see `transformers/var.py`; AdamW with cosine decay; the defaults are small enough for two
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
from aigc_autoregressive.tokenizers import MultiScaleQuantizer
from aigc_autoregressive.transformers.choice import Choice
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.sampling import Known, sample_var
from aigc_autoregressive.transformers.var import VAR, Block


class VARModel(TokenModel):
    """VAR: images drawn scale by scale, inpainting and super-resolution, by class or prompt.

    Held-out images give `val/loss`, in nats per token.

    Args:
        spec: format of the images; declared by the data.
        tokenizer: run, checkpoint or address of a `vqgan` with the quantizer "multi_scale"; its weights become part of
            the checkpoints.
        conditions: what generation is controlled by: "none", "labels" (the data's classes) or "prompts" (its captions).
        text_options: arguments of the text encoder, a transformer over bytes, for conditions "prompts": {"size": 128,
            "depth": 3, "heads": 4, "max_length": 96}.
        condition_dropout: share of the samples that are trained without the condition, for guidance and for editing.
        width: features of a token.
        depth: number of blocks.
        num_heads: of the attention.
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
        tokenizer: str,
        conditions: ConditionName = "none",
        text_options: dict[str, int] | None = None,
        condition_dropout: float = 0.1,
        width: int = 128,
        depth: int = 4,
        num_heads: int = 4,
        lr: float = 1e-3,
        beta2: float = 0.95,
        weight_decay: float = 0.05,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        optimizer = (lr, beta2, weight_decay, warmup_steps, schedule_steps)
        super().__init__(spec, tokenizer, 256, conditions, text_options, condition_dropout, *optimizer)
        check_size(width, depth, num_heads, 0.0)
        quantizer = self._quantizer
        text = self._text_encoder(text_options)
        transformer = VAR(
            self.maps.num_codes,
            quantizer.width,
            quantizer.scales,
            width=width,
            depth=depth,
            num_heads=num_heads,
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
            guidance: strength of class or prompt at the last scale, which it grows to; 1 is none.
            temperature: below 1 draws likelier tokens, 0 the likeliest; 1 draws from what was learned.
            top_k: draw only from this many of the likeliest tokens; 0 for all.
            top_p: draw only from the likeliest tokens that together have this probability; 1 for all.

        Raises:
            UserError: an option is out of range, or a condition is given that the model was not trained with.
        """
        choice = Choice(temperature, top_k, top_p)
        return self._sampled(seeds, labels, prompts, guidance=guidance, choice=choice)

    def edit(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        *,
        keep_scales: int = 0,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        """Return edited images, (B, C, H, W) in [-1, 1].

        What is in the mask is drawn and other pixels stay exactly; or the whole image is drawn again from its coarse
        scales. A token is drawn given the coarser scales; it does not see what is given beside it at its own. Where
        coarser tokens were drawn, those of what stays are found again from what these leave of the image.

        Args:
            images: (B, C, H, W) in [-1, 1].
            masks: (B, 1, H, W), 1 where something is to be drawn; the lower half by default.
            prompts: the text of each image, for models with prompts.
            seeds: for variants, one per image; 0 for all by default.
            keep_scales: draw the whole image, but for the tokens of this many scales, the smallest first: an enlarged
                image gets new details (super-resolution). 0 fills in the mask.
            guidance: strength of the prompt; 1 is none.
            temperature: see `sample`.
            top_k: see `sample`.
            top_p: see `sample`.

        Raises:
            UserError: the images differ in size from those of training, or an option is out of range or does not go
                with a mask.
        """
        choice = Choice(temperature, top_k, top_p)
        if keep_scales == 0:
            return self._completed(images, masks, prompts, seeds, guidance=guidance, choice=choice)
        lengths = self._quantizer.lengths
        if not 0 < keep_scales < len(lengths):
            raise UserError(f"keep_scales is {keep_scales}.", f"Give a number from 1 to {len(lengths) - 1}, or 0.")
        if masks is not None:
            raise UserError("keep_scales draws the whole image again; a mask does not act.", "Leave one of them out.")
        tokens = self.tokens(images)
        given = torch.zeros_like(tokens, dtype=torch.bool)
        given[:, : sum(lengths[:keep_scales])] = True
        return self._redrawn((tokens, given), prompts, seeds, guidance=guidance, choice=choice)

    def losses(self, network: Conditioned, tokens: Tensor, condition: Condition, draws: Tensor) -> Tensor:
        """Return the mean negative log-probability of each sample's tokens, (B,), in nats."""
        transformer: Any = network.transformer
        found: Tensor = -transformer.log_prob(self._inputs(tokens), tokens, condition).mean(1)
        return found

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return `predict`, the logits of each token by the scales before, and what is not exported and why."""
        return token_graphs(self, "scales", lambda tokens, shown: self._transformer(self._inputs(tokens), shown))

    def draw(self, seeds: Sequence[int], condition: Condition, known: Known | None, **options: Any) -> Tensor:
        """See `TokenModel`."""
        return sample_var(self._transformer, self._quantizer, seeds, condition, known=known, **options)

    def found_again(self, images: Tensor, given: Tensor) -> Tensor:
        """Return the tokens of images (B, C, H, W), each after the coarser ones of given tokens (B, N), (B, N)."""
        return self._quantizer.found_again(self.known_options(images)["latents"], given)

    def known_options(self, images: Tensor) -> dict[str, Any]:
        """Return the latents of images (B, C, H, W), from which finer tokens follow where coarser ones were drawn."""
        tokenizer: Any = self.tokenizer
        return {"latents": tokenizer.encode(images)}

    def run(self, network: Conditioned, tokens: Tensor, condition: Condition) -> None:
        """See `TokenModel`."""
        transformer: Any = network.transformer
        transformer(self._inputs(tokens), condition)

    @property
    def _quantizer(self) -> MultiScaleQuantizer:
        tokenizer: Any = self.tokenizer
        quantizer = tokenizer.quantizer
        if not isinstance(quantizer, MultiScaleQuantizer):
            raise UserError("The tokenizer has one scale.", "Train vqgan with --model.quantizer multi_scale.")
        return quantizer

    def _inputs(self, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            return self._quantizer.next_inputs(tokens)
