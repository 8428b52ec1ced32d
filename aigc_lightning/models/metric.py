"""Embeddings in which similar images, or images and their texts, are near each other, by one of five losses.

Papers: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, https://arxiv.org/abs/2004.11362; Chen et al.,
SimCLR, ICML 2020, https://arxiv.org/abs/2002.05709; Deng et al., ArcFace, CVPR 2019, https://arxiv.org/abs/1801.07698;
Radford et al., CLIP, ICML 2021, https://arxiv.org/abs/2103.00020; classification as a baseline: Zhai, Wu,
Classification is a Strong Baseline for Deep Metric Learning, BMVC 2019, https://arxiv.org/abs/1811.12649. Validation:
Wu et al., CVPR 2018, section 3.4 (k-NN).
Departures from the papers: a small residual network for small images; AdamW with warm-up and cosine decay instead of
SGD or LARS; negatives are those of the process's own batch; the temperature is given, not learnt.
Shapes: B batch, C channels, H and W height and width in pixels, D embedding, K classes. Images lie in [-1, 1].
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aigc_lightning.core import keyed
from aigc_lightning.core.batch import ImageBatch, check_needs
from aigc_lightning.core.engine.optimizers import adamw
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.run.collectives import everyones
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.views import NUM_DRAWS, Views, view
from aigc_lightning.errors import UserError
from aigc_lightning.losses.arcface import arcface, cosines
from aigc_lightning.losses.contrastive import image_text, simclr, supervised_contrastive
from aigc_lightning.metrics.nearest_classes import knn_accuracy
from aigc_lightning.metrics.retrieval import text_retrieval
from aigc_lightning.networks.byte_encoder import ByteEncoder
from aigc_lightning.networks.resnet import ResNet

Loss = Literal["classification", "arcface", "supervised_contrastive", "simclr", "image_text"]
_WITH_CLASSES = ("classification", "arcface")
_CONTRASTIVE = ("supervised_contrastive", "simclr")
_PROJECTION = 64  # dimensions of what contrastive losses compare
_NEIGHBOURS = 5
_COPY = 0x7E  # key of the changed copies of held-out images


class Metric(ImageModel):
    """Embeds images so that those of a class, or changed copies of an image, are near each other.

    Held-out images give `val/knn_error`: the share of them that the vote of their five nearest others, by cosine
    similarity, assigns to another class. Without classes it is the share whose changed copy is not nearest to them.

    Args:
        spec: format of the images; declared by the data.
        loss: "classification" (a linear layer on the embedding), "arcface" (classes by angle, with a margin),
            "supervised_contrastive" (two views of each image, near those of its class), "simclr" (the same without
            classes: near each other alone) or "image_text" (near its caption, which a text encoder embeds). A model
            trained with one of the first two classifies as well; one trained with the last embeds texts.
        embedding_size: D.
        width: channels of the residual network at full size; its features are up to 8 times as many.
        temperature: by which the contrastive losses divide cosine similarities.
        scale: factor of the logits of "arcface".
        margin: of "arcface", in radians.
        text_options: arguments of the text encoder of "image_text", a transformer over bytes: {"size": 128, "depth": 3,
            "heads": 4, "max_length": 96}.
        views: random changes of the images in training.
        lr: peak AdamW learning rate.
        weight_decay: of AdamW, applied to weights but not to norms and biases.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the images have no classes or captions and the loss needs them, or an argument is out of range.
    """

    monitor = "val/knn_error"

    def __init__(
        self,
        spec: ImageSpec,
        loss: Loss = "supervised_contrastive",
        embedding_size: int = 128,
        width: int = 32,
        temperature: float = 0.1,
        scale: float = 30.0,
        margin: float = 0.5,
        text_options: dict[str, int] | None = None,
        views: Views | None = None,
        lr: float = 3e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        check_numbers(embedding_size=embedding_size, width=width, temperature=temperature, scale=scale, lr=lr)
        check_numbers(schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, weight_decay=weight_decay, warmup_steps=warmup_steps, margin=margin)
        if margin >= 3:
            raise UserError(f"model.margin is {margin} radians.", "Give less than 3.")
        needs = {"simclr": (), "image_text": ("caption",)}.get(loss, ("label",))
        check_needs(f"Metric with the loss {loss}", needs, spec)
        if text_options and loss != "image_text":
            raise UserError(f"model.text_options acts with the loss image_text, not {loss}.", "Leave it out.")
        self.loss, self.temperature, self.scale, self.margin = loss, temperature, scale, margin
        self.views = views or Views()
        self.lr, self.weight_decay = lr, weight_decay
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.backbone = ResNet(*spec.shape, width)
        self.embedding = nn.Linear(self.backbone.num_features, embedding_size)
        self.head: nn.Module
        if loss in _WITH_CLASSES:
            self.head = nn.Linear(embedding_size, spec.num_classes, bias=loss == "classification")
            self.classify = self._classify  # a capability that only these have
        elif loss == "image_text":
            self.head = _TextHead(embedding_size, text_options or {})
            self.embed_text = self._embed_text  # a capability that only this has
        else:
            self.head = nn.Sequential(
                nn.Linear(embedding_size, embedding_size), nn.ReLU(), nn.Linear(embedding_size, _PROJECTION)
            )
        self.backbone.to(memory_format=torch.channels_last)
        self._seen = _Seen([], [], [], [])

    # ---- inference

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D) of images (B, C, H, W) in [-1, 1]; compare them by cosine similarity."""
        with self.inference():
            vectors: Tensor = self(images.to(self.device, self.embedding.weight.dtype))
        return vectors

    def _classify(self, images: Tensor) -> Tensor:
        """Return logits (B, K) for images (B, C, H, W) in [-1, 1]."""
        return self.classify_embeddings(self.embed(images))

    def classify_embeddings(self, embeddings: Tensor) -> Tensor:
        """Return the logits (B, K) of embeddings (B, D), without a margin, for the losses with classes."""
        with self.inference():
            if self.loss == "arcface":
                return self.scale * cosines(embeddings, self.head.weight)  # type: ignore[arg-type]  # a linear layer
            logits: Tensor = self.head(embeddings)
        return logits

    def _embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings (B, D) of texts, to be compared with those of images by cosine similarity."""
        with self.inference():
            vectors: Tensor = self.head(texts)
        return vectors

    # ---- training

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D), with gradients, in the network's current mode."""
        vectors: Tensor = self.embedding(self.backbone(images.contiguous(memory_format=torch.channels_last)))
        return vectors

    def loss_of(self, views: list[Tensor], labels: Tensor | None, captions: Sequence[str] = ()) -> Tensor:
        """Return the loss of views of the same images, a scalar.

        Args:
            views: one or, for losses that compare views, two tensors (B, C, H, W).
            labels: int64 (B,); None for "simclr" and "image_text".
            captions: of the images, for "image_text".
        """
        vectors = self(torch.cat(views))
        if self.loss == "image_text":
            return image_text(vectors, self.head(captions), captions, self.temperature)
        if self.loss == "simclr":
            first, second = self.head(vectors).chunk(2)
            return simclr(first, second, self.temperature)
        assert labels is not None
        if self.loss == "supervised_contrastive":
            return supervised_contrastive(self.head(vectors), labels.repeat(2), self.temperature)
        if self.loss == "classification":
            return cross_entropy(self.head(vectors), labels)
        cosine = cosines(vectors, self.head.weight)  # type: ignore[arg-type]  # a linear layer
        return arcface(cosine, labels, self.scale, self.margin)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Return the loss of random views of the images."""
        images = batch["image"]
        count = 2 if self.loss in _CONTRASTIVE else 1
        views = [view(images, self.uniform(len(images), NUM_DRAWS), self.views) for _ in range(count)]
        loss = self.loss_of(views, batch.get("label"), batch.get("caption", ()))
        self.record("loss", loss)
        return loss * self.share

    def on_fit_start(self) -> None:
        """Refuse to split a batch whose images are compared with each other.

        Raises:
            UserError: micro-batches are requested.
        """
        super().on_fit_start()
        if self.loss not in _WITH_CLASSES and self.engine.micro_batches > 1:
            raise UserError(
                f"The loss {self.loss} compares the images of a batch, so micro-batches would change it.",
                "Leave engine.micro_batches out, or use the loss classification or arcface.",
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and its schedule, stepped per batch."""
        return adamw(self, self.lr, self.weight_decay, self.warmup_steps, self.schedule_steps)

    # ---- held-out images

    def on_validation_epoch_start(self) -> None:
        """Start to collect anew."""
        self._seen = _Seen([], [], [], [])

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """Collect the embeddings of held-out images, and of their captions or changed copies if the loss has these."""
        images, labels = batch["image"], batch.get("label")
        if self.loss == "image_text":
            self._seen.texts.append(self.head(batch["caption"]).float().cpu())
            self._seen.captions.extend(batch["caption"])
        elif labels is None:
            index = batch["index"].cpu().numpy()
            draws = torch.from_numpy(keyed.uniform(_COPY, index[:, None], torch.arange(NUM_DRAWS).numpy()))
            images = torch.cat([images, view(images, draws.to(images.device), self.views)])
            labels = batch["index"].repeat(2)
        self._seen.vectors.append(self(images).float().cpu())
        self._seen.labels.append(torch.empty(0, dtype=torch.int64) if labels is None else labels.cpu())

    def on_validation_epoch_end(self) -> None:
        """Log the error among all images of all processes."""
        everything = _Seen(
            *([part for parts in lists for part in parts] for lists in zip(*everyones(self._seen), strict=True))
        )
        vectors = torch.cat(everything.vectors) if everything.vectors else torch.empty(0, 1)
        if len(vectors) < 2:
            return
        if self.loss == "image_text":
            found = text_retrieval(torch.cat(everything.texts), vectors, everything.captions, (1,))
            error = 1 - found.recalls.mean().item()
        else:
            neighbours = _NEIGHBOURS if self.spec.num_classes else 1
            error = 1 - knn_accuracy(vectors, torch.cat(everything.labels), neighbours)
        self.log_scores({"knn_error": error})

    def on_test_epoch_start(self) -> None:
        """Start to collect anew."""
        self.on_validation_epoch_start()

    def on_test_epoch_end(self) -> None:
        """Log the error among all images of all processes."""
        self.on_validation_epoch_end()


class _Seen(NamedTuple):
    """What was collected of held-out images, batch by batch."""

    vectors: list[Tensor]  # of the images, (B, D)
    labels: list[Tensor]  # (B,); empty without classes
    texts: list[Tensor]  # of the captions, (B, D)
    captions: list[str]


class _TextHead(nn.Module):
    """Embeds texts in the space of images."""

    def __init__(self, embedding_size: int, options: Mapping[str, int]) -> None:
        super().__init__()
        try:
            self.encoder = ByteEncoder(**options)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"The text encoder cannot be built: {error}.", "Correct model.text_options.") from error
        self.last = nn.Linear(self.encoder.size, embedding_size)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings (B, D) of B texts."""
        tokens = self.encoder.tokenize(texts).to(self.last.weight.device)
        vectors: Tensor = self.last(self.encoder(tokens).pooled)
        return vectors
