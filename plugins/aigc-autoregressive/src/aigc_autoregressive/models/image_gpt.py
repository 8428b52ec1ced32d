"""Image GPT: a causal transformer over a tokenizer's codes or over pixels.

Papers: Chen et al., Generative Pretraining from Pixels, ICML 2020; Sun et al., LlamaGen, 2024,
https://arxiv.org/abs/2406.06525
Departures from the papers: see `transformers/image_gpt.py`; AdamW with cosine decay; the defaults are small enough for
two processor cores.
Shapes: B batch, C channels, H and W height and width in pixels, N tokens of an image, K classes. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from math import log, prod
from typing import Any, ClassVar, Literal

import torch
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.metrics.likelihood import bits_per_dim
from torch import Tensor
from torch.nn.functional import pad

from aigc_autoregressive.exporting import likelihood_graph, token_graphs
from aigc_autoregressive.models.token_features import ConditionName
from aigc_autoregressive.models.token_maps import Pixels
from aigc_autoregressive.models.token_model import TokenModel, check_size, context_of
from aigc_autoregressive.transformers.choice import Choice
from aigc_autoregressive.transformers.conditioned import Conditioned
from aigc_autoregressive.transformers.conditioning import Condition
from aigc_autoregressive.transformers.image_gpt import Block, ImageGPT
from aigc_autoregressive.transformers.sampling import Known, sample_image_gpt


class ImageGPTModel(TokenModel):
    """Image GPT: images drawn token by token, completion, and exact likelihoods of pixels, by class or prompt.

    Held-out images give `val/loss`, in nats per token, and without a tokenizer `val/bits_per_dim`.

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
        mlp: "swiglu" or "gelu".
        position: "rope" (rotary, by row and column) or "learned".
        qk_norm: normalise queries and keys.
        dropout: probability, after embeddings, attention and MLP.
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
    likelihood_kind: ClassVar[str] = "exact"

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
        mlp: Literal["swiglu", "gelu"] = "swiglu",
        position: Literal["rope", "learned"] = "rope",
        qk_norm: bool = False,
        dropout: float = 0.0,
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
        text = self._text_encoder(text_options)
        transformer = ImageGPT(
            self.maps.num_codes,
            self.maps.grids[0],
            self.maps.channels,
            width=width,
            depth=depth,
            num_heads=num_heads,
            mlp=mlp,
            position=position,
            qk_norm=qk_norm,
            dropout=dropout,
            num_classes=self.num_classes,
            **context_of(text),
        )
        self.network = Conditioned(transformer, text, width)

    def attention_maps(
        self, images: Tensor, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """See `TokenModel`; the last token, which no query sees, is added as a key so that each place has its own."""
        found = super().attention_maps(images, labels, prompts)
        return {name: pad(weights, (0, 1)) for name, weights in found.items()}

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
            guidance: strength of class or prompt; 1 is none.
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
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Tensor:
        """Return completed images, (B, C, H, W) in [-1, 1]: what is in the mask is drawn, other pixels stay exactly.

        A token is drawn given those above it and those to its left in its own row, so a hole fits to what is above it
        and need not fit to what is below.

        Args:
            images: (B, C, H, W) in [-1, 1].
            masks: (B, 1, H, W), 1 where something is to be drawn; the lower half by default.
            prompts: the text of each image, for models with prompts.
            seeds: for variants, one per image; 0 for all by default.
            guidance: strength of the prompt; 1 is none.
            temperature: see `sample`.
            top_k: see `sample`.
            top_p: see `sample`.

        Raises:
            UserError: the images differ in size from those of training, or an option is out of range.
        """
        choice = Choice(temperature, top_k, top_p)
        return self._completed(images, masks, prompts, seeds, guidance=guidance, choice=choice)

    def log_likelihood(
        self, images: Tensor, labels: Sequence[int] | None = None, prompts: Sequence[str] | None = None
    ) -> Tensor:
        """Return the exact log-likelihood of 8-bit images in nats, float64 (B,), by the averaged network.

        It is a probability: those of all images sum to 1. Images with values that are none of the model's levels have
        probability 0 and get -inf.

        Args:
            images: (B, C, H, W) of 256 levels in [-1, 1].
            labels: the class of each image, for models with classes; by default the likelihood is that of a mixture of
                all classes with equal weights.
            prompts: the text of each image, for models with prompts; by default it is left open.

        Raises:
            UserError: the model has a tokenizer, the images differ in size from those of training, or a condition is
                given that the model was not trained with.
        """
        if not isinstance(self.maps, Pixels):
            raise UserError("A model of tokens has no likelihood of images.", "Use one without a tokenizer.")
        if labels is not None and not self.num_classes:
            raise UserError("This model was trained without classes.", "Leave labels out.")
        tokens = self.tokens(images)
        if labels is None and self.num_classes:
            by_class = [
                self._log_prob(tokens, self._condition([label] * len(images), None, 1.0))
                for label in range(self.num_classes)
            ]
            found = torch.logsumexp(torch.stack(by_class), dim=0) - log(self.num_classes)
        else:
            found = self._log_prob(tokens, self._condition(labels, prompts, 1.0))
        return found.masked_fill(~self.maps.has_levels(images.to(self.device)), -torch.inf)

    def losses(self, network: Conditioned, tokens: Tensor, condition: Condition, draws: Tensor) -> Tensor:
        """Return the mean negative log-probability of each sample's tokens, (B,), in nats."""
        transformer: Any = network.transformer
        found: Tensor = -transformer.log_prob(tokens, condition).mean(1)
        return found

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Record the losses of held-out images, without a tokenizer also as bits per dimension."""
        super().validation_step(batch, batch_idx)
        if isinstance(self.maps, Pixels):
            losses = self._held_out["loss"][-1]
            self.log_held_out("bits_per_dim", bits_per_dim(-losses * prod(self.spec.shape), prod(self.spec.shape)))

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return `predict`, the logits of each token by those before, and what is not exported and why.

        Models of pixels have `log_likelihood` as well.
        """
        graphs = token_graphs(self, "tokens", self._transformer)
        if isinstance(self.maps, Pixels):
            graphs["log_likelihood"] = likelihood_graph(self, self._transformer)
        return graphs

    def draw(self, seeds: Sequence[int], condition: Condition, known: Known | None, **options: Any) -> Tensor:
        """See `TokenModel`."""
        return sample_image_gpt(self._transformer, seeds, condition, known=known, **options)

    def run(self, network: Conditioned, tokens: Tensor, condition: Condition) -> None:
        """See `TokenModel`."""
        transformer: Any = network.transformer
        transformer.features(tokens, condition)

    def _log_prob(self, tokens: Tensor, condition: Condition) -> Tensor:
        with self.inference():
            found: Tensor = self._transformer.log_prob(tokens, condition).double().sum(1)
        return found
