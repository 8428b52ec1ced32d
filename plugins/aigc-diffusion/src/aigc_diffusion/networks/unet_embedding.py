"""What the U-Net's blocks are told: noise levels and conditions that hold for the whole image.

Shapes: B batch, K noise levels of a sample, E size of the embedding.
"""

from aigc_lightning.errors import UserError
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from aigc_diffusion.networks.conditions import Conditions
from aigc_diffusion.networks.embedding import level_features
from aigc_diffusion.networks.unet_blocks import Style

_SIZE = 4  # of the embedding, in widths


class UNetEmbedding(nn.Module):
    """Embeds noise levels, labels, texts as a whole, and augmentation labels.

    Args:
        width: of the network, an even number.
        style: of the network.
        num_classes: classes that labels may name; 0 for none.
        text_size: of a text's embedding; 0 for no texts.
        augmentation_size: numbers of augmentation labels; 0 for none.
        level_size: K.

    Raises:
        UserError: an odd width.
    """

    def __init__(
        self, width: int, style: Style, num_classes: int, text_size: int, augmentation_size: int, level_size: int
    ) -> None:
        super().__init__()
        if width % 2:
            raise UserError(f"The U-Net has the width {width}.", "Choose an even one.")
        self.width, self.size, self.num_classes, self.style = width, _SIZE * width, num_classes, style
        features = level_size * width
        before = style.labels_before_embedding
        self.first, self.second = nn.Linear(features, self.size), nn.Linear(self.size, self.size)
        self.labels = nn.Linear(num_classes, features if before else self.size, bias=before) if num_classes else None
        self.text = nn.Linear(text_size, self.size) if text_size else None
        self.augmentation = nn.Linear(augmentation_size, features, bias=False) if augmentation_size else None

    def forward(self, level: Tensor, conditions: Conditions) -> Tensor:
        """Return the embedding (B, E) of noise levels (B, K) and conditions, activated."""
        features = level_features(level, self.width)
        if self.augmentation is not None and conditions.augmentation is not None:
            features = features + self.augmentation(conditions.augmentation)
        labels = self._embed_labels(conditions, features)
        if self.style.labels_before_embedding:
            features = features + labels
        embedding = self.second(silu(self.first(features)))
        if not self.style.labels_before_embedding:
            embedding = embedding + labels
        if self.text is not None and conditions.pooled_text is not None:
            embedding = embedding + self.text(conditions.pooled_text)
        return silu(embedding)

    def _embed_labels(self, conditions: Conditions, like: Tensor) -> Tensor | float:
        if self.labels is None or conditions.labels is None:
            return 0.0
        # No class is a row of zeros. The factor is EDM's: one-hot rows of a variance of 1.
        rows = one_hot(conditions.labels, self.num_classes + 1)[:, : self.num_classes].to(like)
        embedded: Tensor = self.labels(rows * self.num_classes**0.5)
        return embedded
