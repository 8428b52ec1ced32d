import math

import pytest
import torch
from torch import Tensor, nn

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractor import Extractor, Features
from aigc_lightning.evaluation.variants import VARIANTS, variants
from aigc_lightning.inference.retrieval.duplicates import FALSE_ALARMS, duplicates, threshold
from aigc_lightning.inference.retrieval.index import Entry, ImageIndex, small_picture
from aigc_lightning.inference.retrieval.indexing import embed


class Coarse(Extractor):
    """Embeds an image as its coarse shapes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Identity(), name="coarse", weights_hash="0" * 64, shape=(3, 8, 8), resize="clean", num_features=192
        )

    def _describe(self, pixels: Tensor, with_logits: bool) -> Features:
        return Features(pixels.flatten(1) - 127.5, None)


def picture(seed: int) -> Tensor:
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 255
    return nn.functional.interpolate(coarse, (40, 40), mode="bicubic")[0].clamp(0, 255).byte()


def entries(images: dict[str, Tensor]) -> dict[str, Entry]:
    vectors = embed(Coarse(), list(images.values()))
    found = zip(images.items(), vectors, strict=True)
    return {name: Entry("", vector, small_picture(image, 96)) for (name, image), vector in found}


def index_of(images: dict[str, Tensor]) -> ImageIndex:
    return ImageIndex(Coarse().fingerprint, "coarse", "pictures", entries(images), complete=True)


def test_copies_mirrored_and_cropped_images_are_found_and_others_are_not():
    images = {str(seed): picture(seed) for seed in range(60)}
    images["copy of 3"] = images["3"].clone()
    images["mirrored 5"] = images["5"].flip(2)
    images["cropped 8"] = images["8"][:, 6:, 6:]
    index = index_of(images)
    found = duplicates(Coarse(), list(index.entries.items()), index, within=True)
    pairs = {frozenset((pair.query, pair.found)): pair for pair in found.pairs}
    planted = [{"3", "copy of 3"}, {"5", "mirrored 5"}, {"8", "cropped 8"}]
    assert set(pairs) == set(map(frozenset, planted))
    assert pairs[frozenset(planted[0])].distance == 0 and found.pairs[0].variant == "as it is"
    assert pairs[frozenset(planted[1])].variant == "mirrored"
    assert pairs[frozenset(planted[2])].variant == "bottom right crop"


def test_queries_are_compared_with_another_index():
    index = index_of({str(seed): picture(seed) for seed in range(40)})
    queries = entries({"7": picture(7), "new": picture(700)})
    found = duplicates(Coarse(), list(queries.items()), index, within=False)
    assert [(pair.query, pair.found) for pair in found.pairs] == [("7", "7")]


def test_the_threshold_follows_the_distances_and_duplicates_hardly_move_it():
    uniform = torch.rand(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances = 0.4 * (-uniform.log()) ** (1 / 6)  # Weibull of shape 6
    plain = threshold(distances)
    assert plain == pytest.approx(0.4 * (-math.log(1 - FALSE_ALARMS)) ** (1 / 6), rel=0.1)
    assert threshold(3 * distances) == pytest.approx(3 * plain)
    equal, near = torch.zeros(5000), torch.full((1000,), 1e-3)
    assert threshold(torch.cat([distances, equal])) == plain
    assert 0.6 * plain < threshold(torch.cat([distances, near])) < plain
    with pytest.raises(UserError, match="no threshold"):
        threshold(distances[:5])


def test_variants_are_views_of_the_image():
    image = torch.arange(300).view(3, 10, 10).byte()
    found = variants(image)
    assert len(found) == len(VARIANTS) and torch.equal(found[1].flip(2), image)
    assert torch.equal(found[-1], image[:, -found[-1].shape[1] :, -found[-1].shape[2] :])
    assert all(one.shape[0] == 3 and min(one.shape[1:]) > 0 for one in variants(image[:, :1, :1]))
