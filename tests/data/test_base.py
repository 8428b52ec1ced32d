from itertools import chain
from typing import ClassVar

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from aigc_lightning.core import keyed
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.sampler import SampleKey
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.augment import Augment
from aigc_lightning.data.base import ArraySource, ImageDataModule, ImageSamples, to_signed
from aigc_lightning.errors import UserError

VARIED = Augment(flip=True, crop=1, color=0.2)


class Counted(ImageDataModule):
    """Image i is filled with the number i and has label i % 3."""

    def __init__(self, num_train=10, num_val=5, **options):
        super().__init__(**options)
        self.counts = num_train, num_val

    @property
    def spec(self):
        return ImageSpec(1, 4, 4, ("a", "b", "c"))

    def _source(self, count):
        numbers = torch.arange(count)
        images = numbers.to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
        return ArraySource(images, numbers % 3)

    def train_source(self):
        return self._source(self.counts[0])

    def val_source(self):
        return self._source(self.counts[1])


class Seen(pl.LightningModule):
    """Notes which samples its training steps and its held-out steps see."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.trained, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.trained.append(batch["index"].tolist())
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, batch_idx):
        self.validated += batch["index"].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_all_grey_levels_survive_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    signed = to_signed(levels)
    assert signed.min() == -1 and signed.max() == 1
    assert torch.equal(to_uint8(signed), levels)


def test_a_batch_has_image_index_and_label():
    samples = ImageSamples(Counted().train_source())
    batch = samples.__getitems__([SampleKey(0, 7), SampleKey(0, 2)])
    assert batch["image"].shape == (2, 1, 4, 4) and batch["image"].dtype == torch.float32
    assert to_uint8(batch["image"])[:, 0, 0, 0].tolist() == batch["index"].tolist() == [7, 2]
    assert batch["label"].tolist() == [1, 2]
    assert "label" not in ImageSamples(ArraySource(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)))[0]


def test_batch_of_a_key_is_the_same_alone_and_among_others():
    pixels = (torch.rand(6, 3, 8, 8) * 255).to(torch.uint8)
    samples = ImageSamples(ArraySource(pixels), seed=5, augmentation=VARIED)
    keys = [SampleKey(epoch, index) for epoch in (0, 1) for index in (4, 1, 3)]
    together = samples.__getitems__(keys)["image"]
    assert torch.equal(together, torch.cat([samples[key]["image"] for key in keys]))
    assert not torch.equal(together[:3], together[3:])


class Fields:
    """Sample i has two images filled with i and 100 + i, a third one of its own, numbers and a text."""

    def __len__(self):
        return 10

    def fields(self, visits):
        numbers = torch.from_numpy(visits.indices).to(torch.uint8)[:, None, None, None]
        images = {"source": numbers.expand(-1, 1, 4, 4), "target": (100 + numbers).expand(-1, 3, 4, 4)}
        mask = torch.full((len(numbers), 1, 4, 4), 0.5)
        epochs = [f"visit {epoch}" for epoch in visits.epochs]
        return {**images, "mask": mask, "caption": epochs}

    def labels(self, indices):
        return torch.tensor(indices) % 2


def test_images_of_all_fields_are_scaled_and_the_rest_is_handed_on():
    batch = ImageSamples(Fields()).__getitems__([SampleKey(3, 7), 2])
    assert to_uint8(batch["source"])[:, 0, 0, 0].tolist() == [7, 2]
    assert to_uint8(batch["target"])[:, 2, 0, 0].tolist() == [107, 102]
    assert batch["mask"].unique().tolist() == [0.5] and batch["caption"] == ["visit 3", "visit 0"]
    assert batch["label"].tolist() == [1, 0] and batch["index"].tolist() == [7, 2]


class Masked(Fields):
    """Sample i has an image, a mask of 0 and 255, a label map and a trimap with a name of its own."""

    kinds: ClassVar[dict[str, str]] = {"trimap": "label_map"}

    def fields(self, visits):
        draws = torch.from_numpy(keyed.uniform(*visits, 5)[:, None] * np.ones((1, 64))).view(-1, 1, 8, 8)
        mask = (draws * torch.arange(64).view(8, 8) > 20).to(torch.uint8) * 255
        image = mask.expand(-1, 3, -1, -1).contiguous()
        return {"image": image, "mask": mask, "label_map": mask // 255 * 7, "trimap": (mask // 255).long() * 200}


@pytest.mark.parametrize("augmentation", [None, VARIED, Augment(flip=True, jitter=3, color=1.0)], ids=str)
def test_masks_and_label_maps_keep_their_values(augmentation):
    batch = ImageSamples(Masked(), 0, augmentation).__getitems__([SampleKey(0, index) for index in range(10)])
    assert batch["mask"].dtype == torch.float32 and batch["mask"].unique().tolist() == [0, 1]
    assert batch["label_map"].dtype == torch.int64 and batch["label_map"].unique().tolist() == [0, 7]
    assert torch.equal(batch["trimap"] // 200, batch["label_map"] // 7)
    assert torch.equal(batch["mask"].long(), batch["label_map"] // 7)


def test_a_mask_without_a_channel_is_named():
    class Flat(Fields):
        def fields(self, visits):
            return {"image": super().fields(visits)["source"], "mask": torch.zeros(len(visits.indices), 4, 4)}

    with pytest.raises(TypeError, match="mask 'mask' of a source must be a tensor"):
        ImageSamples(Flat()).__getitems__([0])


def test_training_batches_cover_the_dataset_in_a_shuffled_order():
    batches = list(Counted(batch_size=4).train_dataloader())
    visits = [index for batch in batches for index in batch["index"].tolist()]
    assert [len(batch["index"]) for batch in batches] == [4, 4, 2]
    assert sorted(visits) == list(range(10)) and visits != list(range(10))


def test_held_out_images_come_in_order_without_variation():
    data = Counted(batch_size=2, augmentation=VARIED)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batches = list(loader)
        assert [batch["index"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
        assert to_uint8(batches[0]["image"])[:, 0, 0, 0].tolist() == [0, 1]


def test_a_test_split_of_its_own_is_tested_on():
    class WithTest(Counted):
        def test_source(self):
            return self._source(3)

    data = WithTest(batch_size=8)
    assert len(next(iter(data.test_dataloader()))["index"]) == 3
    assert len(next(iter(data.val_dataloader()))["index"]) == 5


@pytest.mark.parametrize("interrupted_after", [1, 2, 3, 4])
def test_a_run_resumed_in_mid_epoch_sees_what_an_uninterrupted_one_sees(tmp_path, interrupted_after):
    whole = Seen()
    silent_trainer(max_steps=7, limit_val_batches=0).fit(whole, Counted(batch_size=4))
    first, second = Seen(), Seen()
    begun = silent_trainer(max_steps=interrupted_after, limit_val_batches=0)
    begun.fit(first, Counted(batch_size=4))
    begun.save_checkpoint(tmp_path / "begun.ckpt")
    silent_trainer(max_steps=7, limit_val_batches=0).fit(
        second, Counted(batch_size=4), ckpt_path=tmp_path / "begun.ckpt"
    )
    assert len(whole.trained) == 7
    assert first.trained + second.trained == whole.trained


class SavesAfter(pl.Callback):
    """Saves where Lightning's own checkpoints are saved: in the hook at the end of a batch."""

    def __init__(self, batches, path):
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.batches:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("saved_after", [1, 2, 3, 4])
def test_a_run_resumed_from_a_save_in_a_hook_sees_what_was_left(tmp_path, saved_after):
    whole, second = Seen(), Seen()
    path = tmp_path / "saved.ckpt"
    silent_trainer(max_steps=7, limit_val_batches=0, callbacks=SavesAfter(saved_after, path)).fit(
        whole, Counted(batch_size=4)
    )
    silent_trainer(max_steps=7, limit_val_batches=0).fit(second, Counted(batch_size=4), ckpt_path=path)
    assert second.trained == whole.trained[saved_after:]


def test_validation_in_a_run_sees_every_held_out_image_once_a_pass():
    model = Seen()
    silent_trainer(max_steps=3, num_sanity_val_steps=0).fit(model, Counted(batch_size=4))
    assert model.validated == list(range(5))


def test_processes_share_the_held_out_images():
    shares = []
    for rank in range(3):
        data = Counted(num_val=7, batch_size=2)
        data.trainer = type("Part", (), {"global_rank": rank, "world_size": 3})()
        shares.append([index for batch in data.val_dataloader() for index in batch["index"].tolist()])
    assert sorted(chain(*shares)) == list(range(7))
    assert [len(share) for share in shares] == [3, 2, 2]


def test_the_seed_of_the_run_decides_the_order(monkeypatch):
    orders = []
    for seed in ("1", "2", "1"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        orders.append([batch["index"].tolist() for batch in Counted(batch_size=4).train_dataloader()])
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.slow
def test_loader_processes_give_the_same_batches_as_none():
    from aigc_lightning.data.sets.digits import Digits  # a class of a module that loader processes can import

    loaded = []
    for num_workers in (0, 2):
        data = Digits(size=8, batch_size=400, num_workers=num_workers, augmentation=VARIED)
        loaded.append(list(data.train_dataloader()))
    for alone, shared in zip(*loaded, strict=True):
        assert torch.equal(alone["index"], shared["index"]) and torch.equal(alone["label"], shared["label"])
        assert torch.equal(alone["image"], shared["image"])


def test_impossible_loaders_are_refused():
    with pytest.raises(UserError, match=r"data\.batch_size is 0"):
        Counted(batch_size=0)
    with pytest.raises(UserError, match=r"data\.num_workers is -1"):
        Counted(num_workers=-1)


def test_balanced_data_shows_rare_classes_as_often_as_others():
    class Uneven(Counted):
        def _source(self, count):
            labels = torch.tensor([0] * (count - 3) + [1, 1, 2])
            return ArraySource(torch.zeros(count, 1, 4, 4, dtype=torch.uint8), labels)

    def shown(**options):
        return torch.bincount(torch.cat([batch["label"] for batch in Uneven(30, **options).train_dataloader()]))

    assert shown().tolist() == [27, 2, 1]
    assert shown(balanced=True).tolist() == [10, 10, 10]
    held_out = [batch["label"] for batch in Uneven(30, 9, balanced=True).val_dataloader()]
    assert torch.bincount(torch.cat(held_out)).tolist() == [6, 2, 1]


def test_images_without_classes_cannot_be_balanced():
    class Plain(Counted):
        def _source(self, count):
            return ArraySource(torch.zeros(count, 1, 4, 4, dtype=torch.uint8))

    with pytest.raises(UserError, match=r"data\.balanced is true"):
        Plain(balanced=True).train_dataloader()
