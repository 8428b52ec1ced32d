"""Groups of images are shown in given proportions, or thinned out."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.data.sources import Visits
from aigc_lightning.data.weighted_images import WeightedImages
from aigc_lightning.errors import UserError


def labels_of(source):
    """Return the labels of a source's samples, int64 (N,)."""
    labels = source.labels(range(len(source)))
    assert labels is not None
    return labels


def shown(data):
    """Return how often each training image of an epoch is shown."""
    data.trainer = silent_trainer()
    return Counter(key.number for batch in data.train_sampler() for key in batch)


def test_a_share_of_the_training_images_of_a_group_is_kept_and_all_others_are():
    whole, data = Digits(size=8), WeightedImages(Digits(size=8), keep={"8": 0.05, "9": 0.5})
    plain, source = whole.train_source(), data.train_source()
    labels = labels_of(source)
    before = Counter(labels_of(plain).tolist())
    assert Counter(labels.tolist()) == {**before, 8: 7, 9: before[9] // 2}
    assert len(data.val_source()) == len(whole.val_source())
    indices = np.array([5, 0])
    images = source.fields(Visits(0, indices, indices))["image"]
    numbers = [place for place in range(len(plain)) if any((plain.images([place]) == image).all() for image in images)]
    assert len(numbers) == 2 and sorted(labels_of(plain)[numbers].tolist()) == sorted(labels[indices].tolist())
    again = WeightedImages(Digits(size=8), keep={"8": 0.05, "9": 0.5}).train_source()
    assert (again.fields(Visits(0, indices, indices))["image"] == images).all()


def test_groups_are_shown_in_the_given_proportions():
    data = WeightedImages(Digits(size=8), weights={"8": 3, "0": 0}, keep={"8": 0.05})
    labels = labels_of(data.train_source())
    counts: Counter[Any] = Counter()
    for number, times in shown(data).items():
        counts[int(labels[number])] += times
    share = sum(counts.values()) / (3 + 8)
    assert counts[0] == 0 and abs(counts[8] - 3 * share) <= 3
    assert all(abs(counts[label] - share) <= 1 for label in (1, 2, 3, 4, 5, 6, 7, 9))
    assert set(shown(WeightedImages(Digits(size=8))).values()) == {1}


def test_groups_by_words_of_captions():
    plain = Shapes(size=16, num_train=60)
    data = WeightedImages(plain, by="caption=circle,square", weights={"circle": 1, "square": 1, "other": 2})
    source = data.train_source()
    indices = np.arange(len(source))
    captions = source.fields(Visits(0, indices * 0, indices))["caption"]
    counts: Counter[Any] = Counter()
    for number, times in shown(data).items():
        words = captions[number].split()
        found = [name for name in ("circle", "square") if name in words] or ["other"]
        counts[found[0]] += times
    total = sum(counts.values())
    assert total == 60 and abs(counts["circle"] - 15) <= 1 and abs(counts["other"] - 30) <= 2, captions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"8": -1}}, "data.weights.8"),
        ({"keep": {"8": 0.0}}, "data.keep.8"),
        ({"weights": {"eight": 1}}, "no group 'eight'"),
        ({"by": "colour"}, "data.by"),
        ({"by": "caption=one"}, "no captions"),
        ({"weights": dict.fromkeys("0123456789", 0)}, "show no image"),
    ],
)
def test_what_cannot_work_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        data = WeightedImages(Digits(size=8), **options)
        assert data.spec
        shown(data)


def test_private_training_takes_each_image_independently():
    data = WeightedImages(Digits(size=8), weights={"8": 1})
    data.private_secret = 1
    with pytest.raises(UserError, match="independently"):
        shown(data)
