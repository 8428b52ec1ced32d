"""Feature extractors, by name or from a run or checkpoint.

Shapes: B batch, C channels, H and W height and width in pixels, D features, K classes.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from aigc_lightning import plugins
from aigc_lightning.core.capabilities import Classifier, Embedder, EmbeddingClassifier
from aigc_lightning.core.component import load_component
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.checksums import tensors_digest
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.evaluation.extractor import Extractor as Extractor
from aigc_lightning.evaluation.extractor import Features as Features
from aigc_lightning.evaluation.pretrained import EfficientNetLite, Inception, VisionTransformer

PRETRAINED: dict[str, Callable[[str | None, Path | None], Extractor]] = {
    "inception": Inception,
    "dinov2": lambda resize, weights: VisionTransformer("dinov2", resize, weights),
    "clip": lambda resize, weights: VisionTransformer("clip", resize, weights),
    "efficientnet_lite0": EfficientNetLite,
}


class ModelExtractor(Extractor):
    """A trained model that embeds images, such as the classifier `cnn`; has logits if it classifies.

    Its scores are comparable only between models that were scored with the same extractor.

    Args:
        model: with the capability `embed`.
        resize: the resize protocol for images of another size than the model's.

    Raises:
        UserError: the model does not embed images, or there is no such protocol.
    """

    def __init__(self, model: ImageModel, resize: str | None = None) -> None:
        if not isinstance(model, Embedder):
            raise UserError(
                f"A {type(model).__name__} does not embed images, so it cannot serve as a feature extractor.",
                "Give a run of a model with the capability `embed`, such as cnn (`aigc fit --config cnn_digits`).",
            )
        classes = model.spec.class_names if isinstance(model, Classifier) else ()
        class_path = f"{type(model).__module__}.{type(model).__qualname__}"
        plugin = plugins.find_by_class_path("model", class_path)
        super().__init__(
            model,
            name=plugin.name if plugin else type(model).__name__,
            weights_hash=tensors_digest(model.state_dict()),
            shape=model.spec.shape,
            resize=resize or "clean",
            num_features=_num_features(model),
            num_classes=len(classes),
            class_names=classes,
        )

    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        images = pixels / 127.5 - 1
        model = self.network
        assert isinstance(model, Embedder)
        features, logits = model.embed(images), None
        if with_logits and isinstance(model, EmbeddingClassifier):
            logits = model.classify_embeddings(features)
        elif with_logits and isinstance(model, Classifier):
            logits = model.classify(images)
        return Features(features, logits)


def find_extractor(name: str, *, resize: str | None = None, weights: Path | None = None) -> Extractor:
    """Return an extractor, on the CPU.

    Args:
        name: "inception", "dinov2", "clip" or "efficientnet_lite0"; or a run folder or checkpoint of a model that
            embeds images.
        resize: the resize protocol; None for the extractor's default.
        weights: file of a named extractor's weights; found in the caches when None.

    Raises:
        UserError: there is none of this name, its weights or packages are missing, or the model does not embed.
    """
    if name in PRETRAINED:
        return PRETRAINED[name](resize, weights)
    if not Path(name).exists():
        raise UserError(
            f"{name!r} is not an extractor, a run or a checkpoint.",
            did_you_mean(name, PRETRAINED) + " Or give the run of your own classifier.",
        )
    if weights is not None:
        raise UserError(f"{name} has weights of its own.", f"Leave {weights} out.")
    return ModelExtractor(load_component(name).model, resize)


def _num_features(model: ImageModel) -> int:
    """Return D, by embedding one black image."""
    assert isinstance(model, Embedder)
    with torch.no_grad():
        return int(model.embed(torch.full((1, *model.spec.shape), -1.0)).shape[1])
