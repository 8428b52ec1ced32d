"""Losses, views, scores and capabilities of the metric model; the losses themselves have tests of their own."""

import copy
import pickle

import lightning.pytorch as pl
import pytest
import torch

from aigc_lightning.core import rebuilding
from aigc_lightning.core.capabilities import Classifier, Embedder, TextEmbedder
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.core.views import Views
from aigc_lightning.data.base import ArraySource, ImageDataModule
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.errors import UserError
from aigc_lightning.losses.arcface import arcface, cosines
from aigc_lightning.losses.contrastive import image_text, simclr, supervised_contrastive
from aigc_lightning.metrics.nearest_classes import knn_accuracy
from aigc_lightning.models.metric import Metric
from aigc_lightning.testing.exactness import train

SPEC = ImageSpec(1, 8, 8, tuple("abcd"))
WITH_CLASSES, CONTRASTIVE = ("classification", "arcface"), ("supervised_contrastive", "simclr")


def made(spec=SPEC, **options):
    torch.manual_seed(0)
    return Metric(spec, **{"width": 4, "embedding_size": 6, "warmup_steps": 5, **options})


def images(count=6, spec=SPEC):
    return torch.rand(count, *spec.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def expected(name, model, one, both, labels):
    if name == "classification":
        return torch.nn.functional.cross_entropy(model.head(one), labels)
    if name == "arcface":
        return arcface(cosines(one, model.head.weight), labels, 7.0, 0.4)
    if name == "supervised_contrastive":
        return supervised_contrastive(model.head(both), labels.repeat(2), 0.2)
    return simclr(model.head(both[:6]), model.head(both[6:]), 0.2)


@pytest.mark.parametrize("name", [*WITH_CLASSES, *CONTRASTIVE])
def test_each_loss_is_that_of_its_paper(name):
    first, second, labels = images(), -images(), torch.tensor([0, 1, 0, 1, 2, 3])
    model = made(loss=name, temperature=0.2, scale=7.0, margin=0.4).eval()
    loss = expected(name, model, model(first), model(torch.cat([first, second])), labels)
    views = [first] if name in WITH_CLASSES else [first, second]
    torch.testing.assert_close(model.loss_of(views, None if name == "simclr" else labels), loss)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_only_losses_with_classes_classify():
    for name in WITH_CLASSES:
        model = made(loss=name)
        twin = copy.deepcopy(model)
        assert isinstance(model, Classifier) and model.classify(images()).shape == (6, 4)
        with torch.no_grad():
            twin.embedding.weight.zero_()
        assert not torch.equal(twin.classify(images()), model.classify(images()))  # its own weights
        loaded = pickle.loads(pickle.dumps(model))
        torch.testing.assert_close(loaded.classify(images()), model.classify(images()))
    for name in CONTRASTIVE:
        model = made(loss=name)
        assert isinstance(model, Embedder) and not isinstance(model, Classifier)


def test_images_and_texts_have_one_space():
    spec = ImageSpec(3, 8, 8, captions=True)
    model = made(spec, loss="image_text", text_options={"size": 8, "depth": 1, "heads": 2}, temperature=0.2).eval()
    assert not isinstance(model, Classifier)
    texts = ["a", "b", "c", "a", "d", "e"]
    vectors = model.embed_text(texts)
    assert vectors.shape == (6, 6) and torch.equal(vectors[0], vectors[3])
    expected = image_text(model(images(spec=spec)), model.head(texts), texts, 0.2)
    torch.testing.assert_close(model.loss_of([images(spec=spec)], None, texts), expected)
    assert isinstance(model, TextEmbedder) and not isinstance(made(), TextEmbedder)
    with pytest.raises(UserError, match="needs a caption"):
        made(loss="image_text")
    with pytest.raises(UserError, match="acts with the loss image_text"):
        made(text_options={"size": 8})
    with pytest.raises(UserError, match="text encoder cannot be built"):
        made(spec, loss="image_text", text_options={"sizes": 8})


def test_embeddings_leave_the_model_alone_and_depend_on_no_other_image():
    model = made().train()
    vectors = model.embed(images())
    assert vectors.shape == (6, 6) and not vectors.requires_grad and model.backbone.training
    torch.testing.assert_close(model.embed(images()[2:3]), vectors[2:3])


def test_arcface_classifies_by_the_angle_alone():
    model = made(loss="arcface", scale=5.0)
    logits = model.classify(images())
    assert logits.abs().max() <= 5.0001
    with torch.no_grad():
        model.head.weight *= torch.tensor([[1.0], [2], [3], [4]])
    torch.testing.assert_close(model.classify(images()), logits)


def test_classes_are_needed_but_for_simclr():
    plain = ImageSpec(3, 16, 16)
    made(plain, loss="simclr")
    for name in ("classification", "arcface", "supervised_contrastive"):
        with pytest.raises(UserError, match="needs a label"):
            made(plain, loss=name)


@pytest.mark.parametrize(
    "options",
    [{"width": 0}, {"embedding_size": 0}, {"temperature": 0.0}, {"scale": 0.0}, {"margin": -0.1}, {"margin": 3.0},
     {"lr": 0.0}, {"weight_decay": -1.0}, {"warmup_steps": -1}, {"schedule_steps": 0}],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range_are_named(options):
    with pytest.raises(UserError, match=next(iter(options))):
        made(**options)


class Scores(pl.Callback):
    """Keeps the score of the last validation."""

    def __init__(self, path):
        self.path = path

    def on_validation_end(self, trainer, pl_module):
        if trainer.global_rank == 0:
            torch.save(trainer.callback_metrics["val/knn_error"].item(), self.path)


def build(batch_size):
    return made(Digits(8).spec, width=8, embedding_size=32, lr=0.01, schedule_steps=60), Digits(8, batch_size)


def test_the_score_is_that_of_all_held_out_images_on_one_and_two_processes(tmp_path):
    for processes in (1, 2):
        path = tmp_path / f"{processes}.pt"
        trace = train(
            build,
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
        model = build(64)[0].double()
        model.load_state_dict(trace.saved["state_dict"])
        source = Digits(8).val_source()
        everything = range(len(source))
        labels = source.labels(everything)
        assert labels is not None
        vectors = model.embed(source.images(everything).double() / 127.5 - 1)
        assert torch.load(path) == pytest.approx(1 - knn_accuracy(vectors, labels), abs=1e-7)


class Unlabelled(ImageDataModule):
    """Noise without classes."""

    @property
    def spec(self):
        return ImageSpec(1, 8, 8)

    def train_source(self):
        return ArraySource(torch.randint(256, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte(), None)

    def val_source(self):
        return self.train_source()


def test_without_classes_changed_copies_are_to_be_found(tmp_path):
    model = []

    def build(batch_size):
        model.append(made(Unlabelled().spec, loss="simclr", views=Views(crop=0.9), width=8, lr=0.01))
        return model[0], Unlabelled(batch_size)

    errors = []
    for steps in (1, 40):
        train(
            build, 32, steps, tmp_path / str(steps), callbacks=[Scores(tmp_path / "e.pt")],
            val_check_interval=steps, check_val_every_n_epoch=None, limit_val_batches=1.0,
        )  # fmt: skip
        errors.append(torch.load(tmp_path / "e.pt"))
    assert errors[1] < 0.5 * errors[0] and errors[0] > 0.3


def test_a_few_steps_learn(tmp_path):
    model = []

    def kept(batch_size):
        model.append(build(batch_size)[0])
        return model[0], Digits(8, batch_size)

    train(kept, 64, 60, tmp_path)
    source = Digits(8).val_source()
    images, labels = source.images(range(360)).float() / 127.5 - 1, source.labels(range(360))
    assert labels is not None
    assert knn_accuracy(model[0].embed(images), labels) > 0.93


def test_micro_batches_are_refused_where_images_are_compared(aigc, folder):
    small = ("--trainer.max_steps", 2, "--engine.micro_batches", 2, "--trainer.limit_val_batches", 1)
    done = aigc("fit", "--config", "metric_digits", *small)
    assert done.code == 2 and "compares the images of a batch" in done.err and len(done.lines) <= 4
    done = aigc("fit", "--config", "metric_digits", "--model.loss", "arcface", *small)
    assert done.code == 0, done.err


def test_a_loaded_model_has_its_options_for_views(tmp_path):
    record = {"spec": SPEC.to_dict(), "config": {"views": {"crop": 0.5}}, "versions": {}}
    assert rebuilding.build(Metric, record, tmp_path).views == Views(crop=0.5)
