import pytest
import torch

from aigc_lightning.config.data_section import build_data
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.sampler import SampleKey
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.corruptions import JPEG, Corruption, Downscale, GaussianNoise, corrupt
from aigc_lightning.data.degraded_images import DegradedImages
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.errors import UserError

NOISE: list[Corruption] = [GaussianNoise(30.0)]


def test_held_out_images_are_always_degraded_alike():
    batches = [next(iter(DegradedImages(Digits(size=16), NOISE, batch_size=8).val_dataloader())) for _ in range(2)]
    assert torch.equal(batches[0]["degraded"], batches[1]["degraded"])
    clean = Digits(size=16).val_source().images(range(8))
    assert torch.equal(to_uint8(batches[0]["image"]), clean)
    assert torch.equal(to_uint8(batches[0]["degraded"]), corrupt(clean, NOISE, [(0, 0, i) for i in range(8)]))


def test_corruption_in_training_depends_on_seed_epoch_and_index():
    data = DegradedImages(Digits(size=16), NOISE)
    samples = data.samples(data.train_source(), seed=3)

    def noise(key, seed=3):
        sample = data.samples(data.train_source(), seed=seed)[key]
        return sample["degraded"] - sample["image"]

    both = samples.__getitems__([SampleKey(0, 5), SampleKey(1, 5)])
    assert torch.equal(both["image"][0], both["image"][1])
    assert torch.equal((both["degraded"] - both["image"])[1:], noise(SampleKey(1, 5)))
    others = [noise(SampleKey(0, 5)), noise(SampleKey(0, 6)), noise(SampleKey(0, 5), seed=4)]
    assert all(not torch.equal(noise(SampleKey(1, 5)), other) for other in others)


def test_images_are_varied_before_they_are_degraded():
    data = DegradedImages(Digits(size=16), [GaussianNoise(0.0)], augmentation=Augment(flip=True, crop=2))
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch["image"], batch["degraded"])
    plain = Digits(size=16).train_source().images(batch["index"].tolist())
    assert not torch.equal(to_uint8(batch["image"]), plain)


def test_augmentation_of_the_clean_data_holds_unless_another_is_given():
    inner = Digits(augmentation=Augment(flip=True))
    assert DegradedImages(inner).augmentation == Augment(flip=True)
    assert DegradedImages(inner, augmentation=Augment(crop=1)).augmentation == Augment(crop=1)


def test_spec_is_that_of_the_clean_images_without_classes():
    spec = DegradedImages(Digits(size=16), [Downscale(2)]).spec
    assert (spec.shape, spec.task, spec.class_names) == ((1, 16, 16), "restoration", ())
    assert spec.scale == 2 and DegradedImages(Digits(size=16)).spec.scale == 1
    assert DegradedImages(Digits(size=16), [Downscale(2), GaussianNoise(), Downscale(4)]).spec.scale == 8
    batch = next(iter(DegradedImages(Digits(size=16), [Downscale(2)], batch_size=4).train_dataloader()))
    assert batch["degraded"].shape == (4, 1, 8, 8) and "label" not in batch


def test_captions_of_the_clean_data_are_kept():
    data = DegradedImages(Shapes(size=16, num_train=8), NOISE, batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert data.spec.captions and len(batch["caption"]) == 4


def test_photographs_with_noise_are_what_is_given_without_options():
    data = DegradedImages()
    assert data.spec.shape == (3, 64, 64) and data.corruptions == [GaussianNoise()]


def test_it_can_be_written_as_a_config():
    inner = {"class_path": "aigc_lightning.data.sets.digits.Digits", "init_args": {"size": 8}}
    jpeg = {"class_path": "aigc_lightning.data.corruptions.JPEG", "init_args": {"quality": [20, 60]}}
    noise = {"class_path": "GaussianNoise", "init_args": {"std": 10}}
    data = build_data(
        "aigc_lightning.data.degraded_images.DegradedImages", {"data": inner, "corruptions": [noise, jpeg]}
    )
    assert isinstance(data, DegradedImages) and isinstance(data.data, Digits)
    assert data.data.size == 8 and data.corruptions == [GaussianNoise(10.0), JPEG((20.0, 60.0))]


def test_pairs_and_an_empty_list_are_refused():
    with pytest.raises(UserError, match="gives paired images"):
        _ = DegradedImages(Shapes(task="paired")).spec
    with pytest.raises(UserError, match="corruptions is empty"):
        DegradedImages(corruptions=[])
