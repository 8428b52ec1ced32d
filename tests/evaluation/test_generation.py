import pytest
import torch

from aigc_lightning.core.checkpoint import load_model
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.bank_cache import BankCache
from aigc_lightning.evaluation.extractors import ModelExtractor, find_extractor
from aigc_lightning.evaluation.gate import check_extractor
from aigc_lightning.evaluation.generation import Judge, Reference, score_set
from aigc_lightning.evaluation.image_sets import DataImages, ImageSet
from aigc_lightning.evaluation.references import reference_of
from aigc_lightning.evaluation.score_names import is_better
from aigc_lightning.evaluation.scores import DISTRIBUTION
from aigc_lightning.models.cnn import CNN

DATA = Digits(size=8)


class Damaged(ImageSet):
    """Held-out digits with noise."""

    def __init__(self, std: float, num: int = 360) -> None:
        self.given = DataImages(DATA, "val")
        super().__init__("noise", range(num), self.given.class_names)
        self.std = std

    def read(self, numbers):
        images, index, labels = self.given.read(numbers)
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(numbers[0])) * self.std
        return (images + noise).round().clamp(0, 255).byte(), index, labels


@pytest.fixture
def own_judge(judge, tmp_path):
    return Judge(find_extractor(str(judge)), BankCache(tmp_path / "banks"))


def test_every_score_gets_worse_with_damage(own_judge):
    reference = reference_of(DATA, "train")
    good = score_set(own_judge, Damaged(5), reference).section.scores
    bad = score_set(own_judge, Damaged(120), reference).section.scores
    better = {key: is_better(key) for key in good if is_better(key) and key != "copy_rate"}
    assert len(better) == 10
    for key, way in better.items():
        assert (good[key] < bad[key]) == (way == "lower"), key


def test_copies_of_training_images_are_found(own_judge):
    reference = reference_of(DATA, "train")
    copied = score_set(own_judge, DataImages(DATA, "train").subset(range(100)), reference, ["copy_rate"])
    honest = score_set(own_judge, DataImages(DATA, "val"), reference, ["copy_rate"])
    assert copied.section.scores["copy_rate"] == 1.0
    assert honest.section.scores["copy_rate"] < 0.03


class Mirrored(ImageSet):
    """Training images, mirrored."""

    def __init__(self, count):
        super().__init__("mirrored", range(count))
        self.given = DataImages(DATA, "train")

    def read(self, numbers):
        images, index, labels = self.given.read(numbers)
        return images.flip(-1), index, labels


def test_mirrored_copies_are_found_on_request(own_judge):
    reference = reference_of(DATA, "train")
    asked = ["copy_rate", "changed_copy_rate"]
    mirrored = Mirrored(100)
    found = score_set(own_judge, mirrored, reference, asked).section
    assert found.scores["changed_copy_rate"] == 1.0 > found.scores["copy_rate"]
    assert found.protocol["settings"]["changed_copy_rate"]["variants"] == 7
    honest = score_set(own_judge, DataImages(DATA, "val"), reference, asked).section.scores
    assert honest["changed_copy_rate"] < 0.03
    with pytest.raises(UserError, match=r"changed_copy_rate cannot be computed: It needs training images"):
        score_set(own_judge, mirrored, Reference(DataImages(DATA, "val")), ["changed_copy_rate"])


def test_the_floor_is_what_real_images_score_against_real_ones(own_judge):
    section = score_set(own_judge, Damaged(120), reference_of(DATA, "train", 300), ["frechet_distance"]).section
    assert section.baseline_name == "real against real, 300 and 300 images" or "360" in section.baseline_name
    assert 0 < section.baseline["frechet_distance"] < section.scores["frechet_distance"] / 5


def test_a_score_that_lacks_something_is_refused_when_asked_for_and_left_out_otherwise(own_judge):
    reference = Reference(DataImages(DATA, "val"))
    found = score_set(own_judge, Damaged(5), reference).section.scores
    assert "copy_rate" not in found and "frechet_distance" in found and "perceptual_path_length" not in found
    with pytest.raises(UserError, match=r"copy_rate cannot be computed: It needs training images"):
        score_set(own_judge, Damaged(5), reference, ["copy_rate"])


def test_real_images_are_described_once(own_judge, tmp_path, monkeypatch):
    reference = reference_of(DATA, "train")
    first = score_set(own_judge, Damaged(5), reference).section
    described = []
    monkeypatch.setattr(Judge, "describe", lambda self, images, what: described.append(what) or own(self, images, what))
    again = score_set(own_judge, Damaged(5), reference).section
    assert described == ["noise"] and again == first


own = Judge.describe


def test_the_number_of_processes_and_their_batches_changes_no_digit(own_judge):
    whole = own_judge.describe(Damaged(5), "x")
    shares = [
        Judge(own_judge.extractor, own_judge.cache, rank=rank, world_size=2).describe(Damaged(5), "x")
        for rank in (0, 1)
    ]
    merged = shares[0].merge(shares[1])
    assert merged.features is not None and whole.features is not None
    assert torch.equal(merged.features, whole.features) and torch.equal(merged.moments.mean, whole.moments.mean)


def test_an_extractor_that_knows_nothing_is_refused(own_judge, monkeypatch):
    torch.manual_seed(0)
    images, _, labels = DataImages(DATA, "val").read(range(360))
    untrained = ModelExtractor(CNN(DATA.spec, width=4).eval())
    with pytest.raises(UserError, match="classifies only"):
        check_extractor(untrained, images, labels, DATA.spec.class_names)
    constant = CNN(DATA.spec, width=4).eval()
    # nothing changes its distances
    monkeypatch.setattr(constant, "embed", lambda images: torch.zeros(len(images), constant.head.in_features))
    with pytest.raises(UserError, match="do not grow with blur"):
        check_extractor(ModelExtractor(constant), images, None, ())
    passed = check_extractor(own_judge.extractor, images, labels, DATA.spec.class_names)
    assert passed.accuracy is not None and passed.accuracy > 0.9 and passed.blurred == sorted(passed.blurred)


def test_the_path_length_of_a_model_with_latents(trained, own_judge):
    from aigc_lightning.evaluation.path_length_scores import path_length_of

    paths = path_length_of(load_model(trained), own_judge.extractor)
    assert paths is not None
    mean, deviation = paths.compute()
    assert mean > 0 and deviation > 0 and paths.settings == {"distance": own_judge.extractor.fingerprint}
    assert path_length_of(CNN(DATA.spec, width=4), own_judge.extractor) is None


def test_every_score_says_which_way_is_better():
    for score in DISTRIBUTION.values():
        assert all(is_better(key) == score.better for key in score.keys if not key.endswith(("_std", "_p_value")))
    assert is_better("class_share_p_value") is None
