import copy
import json
import pickle
from dataclasses import dataclass, replace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aigc_lightning.core.batch import check_batch
from aigc_lightning.core.checkpointed import plain
from aigc_lightning.core.image_model import ImageModel, initialize_normal, seeded_normal
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.testing.probe import Probe

SPEC = ImageSpec(3, 8, 12, ("a", "b"))


@dataclass
class Part:
    sizes: tuple[int, ...] = (1, 2)


class Model(ImageModel):
    channels = (3, 4)

    def __init__(self, spec: ImageSpec, width: int = 4, *, part: Part = Part(), names: list[str] | None = None) -> None:  # noqa: B008
        super().__init__(spec)
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2))


class Sampling(Model):
    def sample(self, seeds):
        return seeded_normal(seeds, 2)


class Derived(Model):
    def __init__(self, spec: ImageSpec, depth: int = 2) -> None:
        super().__init__(spec, width=9)


def test_a_model_remembers_its_arguments_with_the_defaults():
    record = Model(SPEC, 7, names=["x"]).provenance()
    assert record["config"] == {"width": 7, "part": {"sizes": [1, 2]}, "names": ["x"]}
    assert record["class_path"] == f"{__name__}.Model" and record["spec"] == SPEC.to_dict()
    assert Model(spec=SPEC).provenance()["config"]["width"] == 4
    assert json.loads(json.dumps(record)) == record


def test_a_derived_class_remembers_its_own_arguments():
    assert Derived(SPEC, 5).provenance()["config"] == {"depth": 5}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_remember_too(copied):
    model = copied(Model(SPEC, 7))
    assert model.provenance()["config"]["width"] == 7


def test_channels_that_do_not_fit_name_both_sides():
    with pytest.raises(UserError, match="Model makes images of 3 or 4 channels but the data has 1"):
        Model(ImageSpec(1, 8, 8))


def test_missing_arguments_are_pythons_own_error():
    with pytest.raises(TypeError, match="spec"):
        Model()  # type: ignore[call-arg]  # on purpose


def test_recorded_values_are_means_without_a_graph():
    model = Model(SPEC)
    for value in (1.0, 2.0, 6.0):
        model.record("loss", torch.tensor(value, requires_grad=True) * 1)
    model.record("other", torch.tensor(5, dtype=torch.float64))
    assert not any(value.requires_grad for value, _ in model._recorded.pairs["train/loss"])
    assert model.pop_recorded() == {"train/loss": 3.0, "train/other": 5.0}
    assert model.pop_recorded() == {}


def test_inference_puts_every_mode_back():
    model = Model(SPEC).train()
    model.layers[2].eval()
    with pytest.raises(KeyError), model.inference():
        assert not model.training and not model.layers[1].training and not torch.is_grad_enabled()
        raise KeyError
    assert model.training and model.layers[1].training and not model.layers[2].training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ([torch.zeros(2, 1, 8, 8), torch.zeros(2)], "a list of Tensor, Tensor"),
        (torch.zeros(2, 1, 8, 8), "a Tensor"),
        ({"pixels": torch.zeros(2, 1, 8, 8)}, "a dict with pixels"),
        ([], "a list of nothing"),
    ],
    ids=["pair", "tensor", "other names", "empty"],
)
def test_what_is_no_batch_is_refused_with_what_is_one(batch, said):
    with pytest.raises(UserError, match=f"is {said}, but the model takes a dict with image") as error:
        check_batch(batch, SPEC)
    assert '"image": (B, 3, 8, 12) in [-1, 1], "label": int64 (B,), "index"' in error.value.hint


class Captioned(Model):
    needs = ("caption", "mask")


def test_data_without_what_a_model_needs_is_refused():
    with pytest.raises(UserError, match=r"Captioned needs a caption .*8x12 RGB.*generation"):
        Captioned(SPEC)
    with pytest.raises(UserError, match=r"needs a mask .*captions") as error:
        Captioned(replace(SPEC, captions=True))
    assert "masks=True" in error.value.hint
    assert Captioned(replace(SPEC, captions=True, masks=True)).spec.masks


def test_a_batch_without_what_a_model_needs_is_described():
    batch = {"image": torch.zeros(2, 1, 8, 8), "index": torch.arange(2)}
    with pytest.raises(UserError, match="image and caption") as error:
        check_batch(batch, SPEC, ("caption",))
    assert '"caption": list of B texts' in error.value.hint
    check_batch({**batch, "caption": ["a", "b"]}, SPEC, ("caption",))


def test_an_unknown_need_is_a_mistake_of_the_author():
    class Wrong(Model):
        needs = ("captions",)

    with pytest.raises(TypeError, match="'captions'"):
        Wrong(SPEC)


def test_a_loader_of_ones_own_gives_batches_by_name_or_is_refused(tmp_path):
    pairs = TensorDataset(torch.rand(8, 1, 4, 4) * 2 - 1, torch.zeros(8, dtype=torch.int64))
    options = {"accelerator": "cpu", "max_steps": 2, "default_root_dir": tmp_path, "barebones": True}
    for stage in ("fit", "validate", "test", "predict"):
        with pytest.raises(UserError, match="a list of Tensor, Tensor"):
            getattr(pl.Trainer(**options), stage)(Probe(ImageSpec(1, 4, 4)), DataLoader(pairs, batch_size=4))
    trainer = pl.Trainer(**options)
    samples: Any = [{"image": pairs[number][0]} for number in range(len(pairs))]
    trainer.fit(Probe(ImageSpec(1, 4, 4)), DataLoader(samples, batch_size=4))
    assert trainer.global_step == 2


def test_prediction_makes_a_picture_a_sample_where_it_can():
    batch = {"index": torch.tensor([5, 3])}
    assert Model(SPEC).predict_step(batch, 0) is None
    found = Sampling(SPEC).predict_step(batch, 0)
    assert found is not None and torch.equal(found, seeded_normal([5, 3], 2))


def test_rows_of_seeded_numbers_depend_on_their_own_seed():
    together = seeded_normal([3, 1, 2**62], 4, 5)
    assert together.shape == (3, 4, 5)
    assert torch.equal(together[1], seeded_normal([1], 4, 5)[0])
    assert len({row.sum().item() for row in together}) == 3


def test_initialisation_statistics():
    torch.manual_seed(0)
    network: Any = nn.Sequential(
        nn.Conv2d(64, 64, 4), nn.ConvTranspose2d(64, 64, 4), nn.Linear(300, 300), nn.BatchNorm2d(9999)
    )
    initialize_normal(network)
    for layer in network[:3]:
        # 65,536 numbers or more: the error of the mean is below 0.02 / 256, that of the deviation below that.
        assert abs(layer.weight.mean()) < 4e-4 and layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert (layer.bias == 0).all()
    assert network[3].weight.mean().item() == pytest.approx(1, abs=1e-3)
    assert network[3].weight.std().item() == pytest.approx(0.02, rel=0.05) and (network[3].bias == 0).all()


def test_plain_values():
    value = {"a": (1, [2.5, None]), 3: Part(), "t": True, "s": "x"}
    assert plain(value, "here") == {"a": [1, [2.5, None]], "3": {"sizes": [1, 2]}, "t": True, "s": "x"}
    with pytest.raises(TypeError, match=r"here\.a is a Tensor"):
        plain({"a": torch.zeros(1)}, "here")
    with pytest.raises(TypeError, match="type"):
        plain(Part, "here")
