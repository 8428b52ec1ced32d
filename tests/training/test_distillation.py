"""`aigc fit --distill.teacher`: a model learns from a trained one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_lightning.core.checkpoint import load_model, read_checkpoint, save_weights
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.cnn import CNN
from aigc_lightning.models.dcgan import DCGAN

SPEC = ImageSpec(1, 32, 32, class_names=tuple("0123456789"))
FAST = ["--grids.num=4", "--trainer.val_check_interval=null", "--trainer.precision=32-true"]
GAN = ["--config=dcgan_digits", "--model.width=2", *FAST]


@pytest.fixture
def teachers(folder: Path) -> Path:
    torch.manual_seed(0)
    made = {
        "gan": DCGAN(SPEC, latent_size=64, width=4, conditioning="projection", discriminator_norm="spectral"),
        "other": DCGAN(SPEC, latent_size=32, width=4, conditioning="projection", discriminator_norm="spectral"),
        "cnn": CNN(SPEC, width=4),
        "small": CNN(ImageSpec(1, 16, 16, class_names=SPEC.class_names), width=4),
        "autoencoder": Autoencoder(SPEC, width=4, num_halvings=1),
    }
    for name, model in made.items():
        model.configure_model()
        save_weights(model, folder / f"{name}.safetensors", {})
    return folder


def _state(run: Path) -> dict[str, Any]:
    return read_checkpoint(find_checkpoint(run))


def test_the_student_is_a_model_of_its_own_class_that_needs_no_teacher(teachers: Path, aigc: Any) -> None:
    done = aigc("fit", *GAN, "--distill.teacher=gan.safetensors", "--trainer.max_steps=2", "--run=whole")
    assert done.code == 0 and "begins with weights of gan.safetensors" in done.out
    made = _state(teachers / "whole")["aigc"]
    assert made["class_path"].endswith("DCGAN") and made["components"]["teacher"]["address"] == "gan.safetensors"
    part = aigc("fit", *GAN, "--distill.teacher=gan.safetensors", "--trainer.max_steps=1", "--run=part")
    again = aigc("fit", "--resume=part", "--trainer.max_steps=2")
    assert part.code == again.code == 0
    whole, resumed = (_state(teachers / run)["state_dict"] for run in ("whole", "part"))
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())
    refused = aigc("fit", "--resume=part", "--trainer.max_steps=3", "--distill.weight=2")
    assert refused.code == 2 and "distill.weight" in refused.err
    (teachers / "gan.safetensors").unlink()
    student: Any = load_model(teachers / "whole")
    assert student.sample([0]).shape == (1, 1, 32, 32)


def test_a_student_of_full_width_begins_as_its_teacher(teachers: Path, aigc: Any) -> None:
    options = ["--model.lr=1e-30", "--model.weight_decay=0", "--model.warmup_steps=0", "--model.width=4"]
    fit = ["fit", "--config=cnn_digits", *options, *FAST, "--trainer.max_steps=1", "--model.schedule_steps=null"]
    assert aigc(*fit, "--distill.teacher=cnn.safetensors", "--run=run").code == 0
    teacher, student = load_model(teachers / "cnn.safetensors"), load_model(teachers / "run")
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(student.state_dict()[name], value, rtol=0, atol=1e-20)


@pytest.mark.parametrize("model", ["autoencoder", "cnn"])
def test_editors_and_classifiers_come_closer_to_their_teacher(model: str, teachers: Path, aigc: Any) -> None:
    kind = {"autoencoder": ["--model.num_halvings=1"], "cnn": ["--model.warmup_steps=0"]}[model]
    fit = ["fit", "--model", model, "--model.width=2", *kind, "--data=digits", *FAST, "--ema.decay=0"]
    fit += [f"--distill.teacher={model}.safetensors", "--distill.weight=1000", "--trainer.log_every_n_steps=1"]
    assert aigc(*[each for each in fit if "ema" not in each], "--trainer.max_steps=12", "--run=run").code == 0
    rows = (teachers / "run" / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("train/distillation_loss")
    values = [float(row.split(",")[column]) for row in rows[1:] if row.split(",")[column]]
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--distill.teacher=small.safetensors"], ["16x16", "32x32"]),
        (["--distill.teacher=cnn.safetensors"], ["DCGAN", "CNN", "same kind"]),
        (["--distill.teacher=other.safetensors"], ["latent"]),
        (["--distill.weight=2"], ["distill.teacher"]),
        (["--distill.teacher=gan.safetensors", "--distill.temperature=0"], ["distill.temperature"]),
    ],
)
def test_teachers_that_do_not_fit_are_refused(options: list[str], words: list[str], teachers: Path, aigc: Any) -> None:
    done = aigc("fit", *GAN, *options, "--trainer.max_steps=1")
    assert done.code == 2 and all(word in done.err for word in words) and len(done.err.splitlines()) <= 4, done.err
