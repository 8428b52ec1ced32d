"""Loss, scores and capabilities of the classifier; the network and the schedule have tests of their own."""

import math

import lightning.pytorch as pl
import pytest
import torch
from torch.nn.functional import cross_entropy

from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.errors import UserError
from aigc_lightning.models.cnn import CNN
from aigc_lightning.testing.exactness import train

SPEC = ImageSpec(1, 8, 8, tuple("abcdefghij"))


def made(spec=SPEC, **options):
    torch.manual_seed(0)
    return CNN(spec, **{"width": 8, "warmup_steps": 5, **options})


def batch(count=6, spec=SPEC):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, *spec.shape, generator=generator) * 2 - 1
    return {"image": images, "label": torch.arange(count) % spec.num_classes, "index": torch.arange(count)}


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_the_cross_entropy_with_smoothed_labels(smoothing):
    model = made(label_smoothing=smoothing)
    given = batch()
    log_probs = model(given["image"]).log_softmax(dim=1)
    targets = torch.full_like(log_probs, smoothing / 10)
    targets[torch.arange(6), given["label"]] += 1 - smoothing
    torch.testing.assert_close(model.training_step(given, 0), -(targets * log_probs).sum(dim=1).mean())
    recorded = model.pop_recorded()
    assert recorded["train/loss"] == pytest.approx(-(targets * log_probs).sum(dim=1).mean().item(), rel=1e-6)
    assert recorded["train/accuracy"] == (log_probs.argmax(dim=1) == given["label"]).float().mean().item()


def test_logits_are_a_linear_function_of_the_features():
    model = made()
    images = batch()["image"]
    vectors = model.embed(images)
    assert vectors.shape == (6, 16) and model.classify(images).shape == (6, 10)
    torch.testing.assert_close(model.classify(images), vectors @ model.head.weight.T + model.head.bias)


def test_answers_leave_the_model_alone_and_depend_on_no_other_image():
    model = made().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = batch()["image"]
    logits = model.classify(images)
    assert model.backbone.training and not logits.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(logits[2:3], model.classify(images[2:3]))
    assert torch.equal(model.predict_step(batch(), 0), logits)


def test_weights_decay_and_norms_and_biases_do_not():
    model = made(weight_decay=0.2, lr=0.3)
    decayed, others = model.configure_optimizers()["optimizer"].param_groups
    assert decayed["weight_decay"] == 0.2 and others["weight_decay"] == 0
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert decayed["initial_lr"] == 0.3 and decayed["lr"] == pytest.approx(0.3 / 6)


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"lr": 0.0}, {"weight_decay": -1.0}, {"warmup_steps": -1}, {"schedule_steps": 0},
     {"label_smoothing": 1.0}, {"label_smoothing": -0.1}],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        made(**options)


def test_images_without_classes_are_refused():
    with pytest.raises(UserError, match=r"needs a label .*16x16 RGB"):
        made(ImageSpec(3, 16, 16))


class Scores(pl.Callback):
    """Keeps the scores of each validation."""

    def __init__(self, path):
        self.path = path

    def on_validation_end(self, trainer, pl_module):
        scores = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        if trainer.global_rank == 0:
            torch.save(scores, self.path)


def build_for_scores(batch_size):
    return made(Digits(8).spec, lr=0.01), Digits(8, batch_size)


def test_scores_are_those_of_all_held_out_images_on_one_and_two_processes(tmp_path):
    """360 images of ten classes: batches of 64 and 32 do not divide them."""
    for processes in (1, 2):
        path = tmp_path / f"{processes}.pt"
        trace = train(
            build_for_scores,
            64,
            12,
            tmp_path / str(processes),
            processes=processes,
            callbacks=[Scores(path)],
            val_check_interval=12,
            check_val_every_n_epoch=None,
            limit_val_batches=1.0,
            precision="64-true",
        )
        model = made(Digits(8).spec)
        model.load_state_dict(trace.saved["state_dict"])
        scores = torch.load(path)
        source = Digits(8).val_source()
        everything = range(len(source))
        images, labels = source.images(everything).double() / 127.5 - 1, source.labels(everything)
        assert labels is not None
        logits = model.double().classify(images)
        right = (logits.argmax(dim=1) == labels).double()
        assert scores["val/accuracy"] == pytest.approx(right.mean().item(), abs=1e-7)
        assert scores["val/loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
        recall = [right[labels == k].mean().item() for k in range(10)]
        assert scores["val/recall"] == pytest.approx(sum(recall) / 10, abs=1e-7)
        assert set(scores) == {f"val/{name}" for name in ("loss", "accuracy", "recall", "precision", "f1")}


def test_a_few_steps_learn(tmp_path):
    """A hundred steps on 8x8 digits: chance is 0.1."""
    model = []

    def build(batch_size):
        model.append(made(Digits(8).spec, schedule_steps=100, lr=0.01))
        return model[0], Digits(8, batch_size)

    train(build, 64, 100, tmp_path)
    source = Digits(8).val_source()
    images, labels = source.images(range(360)).float() / 127.5 - 1, source.labels(range(360))
    assert (model[0].classify(images).argmax(dim=1) == labels).float().mean() > 0.9


def test_an_untrained_classifier_is_as_unsure_as_can_be():
    loss = made(label_smoothing=0.0).training_step(batch(), 0).item()
    assert loss == pytest.approx(math.log(10), rel=0.35)


class TestTimm:
    """Networks of timm."""

    @pytest.fixture(autouse=True)
    def _needs_timm(self):
        pytest.importorskip("timm")

    @pytest.mark.parametrize(
        ("name", "size"),
        [("resnet10t", (24, 40)), ("vit_tiny_patch16_224", (32, 48)), ("mobilenetv3_small_050", (32, 32))],
    )
    def test_networks_by_name(self, name, size):
        spec = ImageSpec(1, size[0], size[1], ("a", "b"))
        model = made(spec, backbone=name)
        images = batch(2, spec)["image"]
        assert model.classify(images).shape == (2, 2)
        torch.testing.assert_close(model.classify(images), model.head(model.embed(images)))
        model.training_step(batch(2, spec), 0).backward()
        assert all(parameter.grad is not None for parameter in model.head.parameters())

    def test_a_misspelt_name_gets_a_suggestion(self):
        with pytest.raises(UserError, match="resnet50") as caught:
            made(backbone="resnet5O")
        assert "resnet5O" in str(caught.value)

    def test_a_size_that_a_network_does_not_take_is_named(self):
        with pytest.raises(UserError, match="28x28"):
            made(ImageSpec(1, 28, 28, ("a", "b")), backbone="inception_v3")


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install .*\[timm\]"):
        made(backbone="convnext_atto")
