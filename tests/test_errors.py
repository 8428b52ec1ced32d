"""What a person sees who made a mistake: at most four lines, exit code 2, the thing's name and a next step."""

import json
import logging

import pytest
import torch
from PIL import Image

from aigc_lightning.errors import UserError, did_you_mean

#: What was wrong -> options, and what the message must say.
OPTIONS = {
    "no such command": (["fitt"], ["'fitt'", "fit"]),
    "option before the command": (["--config", "x"], ["--config", "aigc COMMAND"]),
    "nothing named": (["fit"], ["needs a model", "--model", "dcgan"]),
    "no data named": (["fit", "--model", "dcgan"], ["needs data", "digits"]),
    "unknown model": (["fit", "--model", "dcgam", "--data", "digits"], ["'dcgam'", "dcgan"]),
    "unknown data": (["fit", "--model", "dcgan", "--data", "digit"], ["'digit'", "digits"]),
    "unknown package of a model": (["fit", "--model", "nobody:dcgan", "--data", "digits"], ["'nobody:dcgan'"]),
    "unknown preset": (["fit", "--config", "dcgan_digit"], ["'dcgan_digit'", "dcgan_digits"]),
    "unknown file": (["fit", "--config", "no/such.yaml"], ["no/such.yaml", "`aigc configs`"]),
    "preset written as a file": (["fit", "--config", "dcgan_digits.yaml"], ["--config dcgan_digits"]),
    "config without a value": (["fit", "--config"], ["--config has no value"]),
    "file instead of a preset": (["fit", "--config", "missing.yml"], ["missing.yml"]),
    "resume of nothing": (["fit", "--resume"], ["--config NAME"]),
    "resume of no run": (["fit", "--config", "dcgan_digits", "--resume"], ["runs/dcgan_digits"]),
    "resume of a missing file": (["fit", "--resume", "no.ckpt"], ["no.ckpt"]),
    "checkpoint that is missing": (["validate", "--checkpoint", "no.ckpt"], ["no.ckpt", "run folder"]),
    "validate without a checkpoint": (["validate", "--config", "dcgan_digits"], ["--checkpoint"]),
    "sample without a checkpoint": (["sample"], ["checkpoint", "aigc sample --help"]),
    "sample of a missing file": (["sample", "no.ckpt"], ["no.ckpt"]),
    "sample of an address": (["sample", "gs://x/a.ckpt"], ["gs://x/a.ckpt", "download"]),
    "resume of an address": (["fit", "--resume", "ftp://x.org/a.ckpt"], ["needs a model", "--config PRESET"]),
    "validate an address": (["validate", "--checkpoint", "s3://x/a.ckpt"], ["needs a model"]),
    "seeds that are none": (["sample", "x", "--seeds", "a-b"], ["'a-b'", "0-15"]),
    "seeds backwards": (["sample", "x", "--seeds", "9-3"], ["'9-3'"]),
    "option that models lacks": (["models", "--jso"], ["--jso", "--json"]),
    "export of a missing file": (["export", "nothing"], ["nothing"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_mistakes_in_options(name, aigc):
    argv, said = OPTIONS[name]
    check(aigc(*argv), said)


#: What was wrong -> options beside `fit --config tiny.yaml`, and what the message must say.
WITH_CONFIG = {
    "unknown option of the model": (["--model.widht", "3"], ["model.widht", "model.width"]),
    "unknown option of the data": (["--data.batchsize", "3"], ["data.batchsize", "data.batch_size"]),
    "option of other data": (
        ["--data.task", "3"],
        ["data.task", "Known: data.augmentation, data.balanced, data.batch_"],
    ),
    "option of the trainer under data": (["--data.max_steps", "3"], ["Did you mean trainer.max_steps?"]),
    "unknown option of the trainer": (["--trainer.max_step", "3"], ["trainer.max_step", "trainer.max_steps"]),
    "unknown option of the engine": (["--engine.clip", "3"], ["engine.clip", "engine.clip_norm"]),
    "unknown option": (["--sead", "3"], ["sead", "--help"]),
    "option without its section": (["--batch_size", "3"], ["batch_size", "data.batch_size"]),
    "whole number expected": (["--model.width", "wide"], ["model.width", "a whole number", "wide"]),
    "number expected": (["--model.generator_lr", "fast"], ["generator_lr", "a number", "fast"]),
    "one of some expected": (["--model.loss", "hinges"], ["model.loss", "hinge", "nonsaturating"]),
    "yes or no expected": (["--trainer.deterministic", "perhaps"], ["trainer.deterministic", "perhaps"]),
    "whole number of the trainer": (["--trainer.max_steps", "many"], ["trainer.max_steps", "a whole number", "many"]),
    "whole number of the engine": (["--engine.micro_batches", "2.5"], ["engine.micro_batches", "2.5"]),
    "value missing": (["--trainer.max_steps"], ["trainer.max_steps", "--help"]),
    "engine out of range": (["--engine.clip_norm", "-1.5"], ["engine.clip_norm", "-1.5"]),
    "average out of range": (["--ema.decay", "1.5"], ["ema.decay", "1.5"]),
    "average under its former name": (["--engine.ema_decay", "1.5"], ["ema.decay", "1.5"]),
    "two speeds of the average": (
        ["--ema.decay", "0.9", "--ema.half_life_images", "1000"],
        ["ema.decay and ema.half_life_images", "--ema.decay null"],
    ),
    "width of an average out of range": (["--ema.relative_widths", "0.05,0.4"], ["ema.relative_widths", "0.4"]),
    "width of an average that is no number": (["--ema.relative_widths", "wide"], ["ema.relative_widths", "wide"]),
    "snapshots without widths": (["--ema.snapshot_every", "5"], ["ema.snapshot_every", "ema.relative_widths"]),
    "batch size out of range": (["--data.batch_size", "0"], ["data.batch_size", "0"]),
    "grids out of range": (["--grids.num", "0"], ["grids.num"]),
    "checkpoints out of range": (["--checkpoints.every_n_steps", "0"], ["checkpoints.every_n_steps"]),
    "no images": (["--max_images", "0", "--trainer.max_steps", "-1"], ["max_images", "0"]),
    "two ends": (["--max_images", "100"], ["--max_images", "--trainer.max_steps"]),
    "no such logger": (["--logger", "wandbb"], ["'wandbb'", "wandb"]),
    "no such accelerator": (["--trainer.accelerator", "quantum"], ["quantum"]),
    "no such precision": (["--trainer.precision", "17"], ["precision"]),
    "no such strategy": (["--trainer.strategy", "together"], ["together"]),
    "a sharded strategy": (["--trainer.strategy", "fsdp"], ["DCGAN", "fsdp", "one optimizer", "auto"]),
    "another sharded strategy": (["--trainer.strategy", "deepspeed"], ["DCGAN", "deepspeed", "one optimizer", "auto"]),
    "a callback that takes steps itself": (
        ["--trust-config", "--trainer.callbacks+=lightning.pytorch.callbacks.BatchSizeFinder"],
        ["BatchSizeFinder", "DCGAN", "one optimizer"],
    ),
    "a callback that tries learning rates": (
        ["--trust-config", "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateFinder"],
        ["LearningRateFinder", "DCGAN", "one optimizer"],
    ),
    "a callback that collects batches": (
        [
            "--trust-config",
            "--trainer.callbacks+=lightning.pytorch.callbacks.GradientAccumulationScheduler",
            '--trainer.callbacks.scheduling={"0": 2}',
        ],
        ["GradientAccumulationScheduler", "DCGAN", "one optimizer"],
    ),
    "no devices": (["--trainer.devices", "0"], ["devices"]),
    "size that the model does not take": (["--data.size", "30"], ["30x30", "multiples of 4"]),
    "size that the data does not take": (["--data.size", "4"], ["data.size", "8 or more"]),
    "penalty on batch norm": (
        ["--model.loss", "wasserstein", "--model.discriminator_norm", "batch"],
        ["batch norm", "discriminator_norm"],
    ),
    "a learning rate that is no number": (["--model.generator_lr", ".nan"], ["generator_lr", "nan"]),
    "an infinite learning rate": (["--model.generator_lr", ".inf"], ["generator_lr", "inf"]),
    "a million layers": (
        ["--model=autoencoder", "--model.num_blocks=1000000"],
        ["model.num_blocks", "1000000", "1000"],
    ),
    "steps of D": (["--model.discriminator_steps", "0"], ["discriminator_steps", "at least 1"]),
    "accumulation of the trainer": (["--trainer.accumulate_grad_batches", "2"], ["--engine.micro_batches"]),
    "clipping of the trainer": (["--trainer.gradient_clip_val", "1"], ["--engine.clip_norm"]),
    "folder that is missing": (["--data", "image_folder", "--data.root", "no/pictures"], ["no/pictures"]),
    "folder that is not given": (["--data", "image_folder"], ["data.root", "--data.root VALUE"]),
    "run folder under a file": (["--run", "tiny.yaml/run"], ["tiny.yaml/run", "--run"]),
    "run folder that is a file": (["--run", "tiny.yaml"], ["tiny.yaml", "--run"]),
    "class that is no model": (["--model", "torch.nn.Linear"], ["torch.nn.Linear", "aigc models"]),
    "class that is not there": (["--model", "aigc_lightning.models.dcgan.DCGAM"], ["DCGAM"]),
    "module that is not allowed": (["--model", "subprocess.Popen"], ["subprocess", "--trust-config"]),
    "data as a model": (["--model", "aigc_lightning.data.sets.digits.Digits"], ["Digits", "aigc models"]),
    "minutes that are none": (["--trainer.max_time", "soon", "--trainer.max_steps", "-1"], ["soon", "DD:HH:MM:SS"]),
}


@pytest.mark.parametrize("name", WITH_CONFIG)
def test_mistakes_beside_a_config(name, aigc, tiny):
    argv, said = WITH_CONFIG[name]
    check(aigc("fit", "--config", tiny, *argv), said)


#: Nine lines that stand for a hundred million values.
BOMB = "trainer:\n  a0: &a0 [1]\n" + "".join(
    f"  a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n" for number in range(1, 9)
)
#: What was wrong -> the text of the config, and what the message must say.
CONFIGS = {
    "empty": ("", ["bad.yaml", "is empty", "model"]),
    "not YAML": ("model: [dcgan\ndata: digits", ["bad.yaml", "line 2"]),
    "tabs": ("model:\n\tclass_path: dcgan", ["bad.yaml", "line 2"]),
    "bytes": ("\x00\x01", ["bad.yaml"]),
    "a list": ("- dcgan", ["bad.yaml", "list"]),
    "a text": ("dcgan", ["bad.yaml", "str"]),
    "an object": ("model: !!python/object/apply:os.system ['touch marker']", ["bad.yaml", "not YAML"]),
    "where the run goes": ("model: dcgan\ndata: digits\nrun: elsewhere", ["bad.yaml", "'run'", "--run"]),
    "which run goes on": ("model: dcgan\ndata: digits\nresume: runs/x/1", ["bad.yaml", "'resume'", "--resume"]),
    "an alias of itself": ("model: &a {class_path: *a}\ndata: digits", ["bad.yaml, line 1", "alias"]),
    "an alias bomb": (f"model: dcgan\ndata: digits\n{BOMB}", ["bad.yaml", "aliases"]),
    "an alias bomb within a text": (f"model: dcgan\ndata: {{x: [{json.dumps(BOMB)}]}}", ["bad.yaml", "aliases"]),
    "a section twice": ("model: dcgan\ndata: digits\nmodel: vae", ["bad.yaml, line 3", "'model'", "line 1"]),
    "an option twice": (
        "model: dcgan\ndata: digits\ntrainer:\n  max_steps: 1\n  devices: 1\n  max_steps: 2",
        ["bad.yaml, line 6", "'max_steps'", "line 4"],
    ),
    "under the stage": ("fit:\n  model: dcgan", ["'fit'", "top"]),
    "option without its section": ("model: dcgan\ndata: digits\nmax_steps: 3", ["'max_steps'", "trainer:"]),
    "unknown section": ("model: dcgan\ndata: digits\ntrainr: {}", ["'trainr'", "trainer"]),
    "section that is a number": ("model: dcgan\ndata: digits\n3: 4", ["3", "bad.yaml"]),
    "section twice nested": ("model: {model: dcgan}\ndata: digits", ["model"]),
    "options beside class_path": ("model: {class_path: dcgan, width: 3}\ndata: digits", ["init_args:"]),
    "options without class_path": ("model: {width: 3}\ndata: digits", ["model"]),
    "trainer is a list": ("model: dcgan\ndata: digits\ntrainer: [1, 2]", ["trainer"]),
    "trainer is a text": ("model: dcgan\ndata: digits\ntrainer: fast", ["trainer"]),
    "model is a list": ("model: [dcgan]\ndata: digits", ["model"]),
    "init_args is a list": ("model: {class_path: dcgan, init_args: [1]}\ndata: digits", ["model"]),
    "unknown name": ("model: {class_path: dcgam}\ndata: digits", ["'dcgam'", "dcgan"]),
    "unknown callback": (
        "model: dcgan\ndata: digits\ntrainer: {max_steps: 1, callbacks: [{class_path: gridz}]}",
        ["gridz"],
    ),
    "a huge number": ("model: dcgan\ndata: digits\ntrainer: {max_steps: 1e400}", ["max_steps"]),
    "a spec": ("model: {class_path: dcgan, init_args: {spec: 3}}\ndata: digits", ["spec"]),
    "seed that is none": ("model: dcgan\ndata: digits\nseed_everything: [1]", ["seed_everything"]),
    "seed that is negative": ("model: dcgan\ndata: digits\nseed_everything: -4", ["seed_everything", "-4"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_mistakes_in_a_config(name, aigc, folder):
    text, said = CONFIGS[name]
    (folder / "bad.yaml").write_text(text)
    check(aigc("fit", "--config", "bad.yaml"), said)
    assert not (folder / "marker").exists()


def test_a_folder_without_images(aigc, tiny, folder):
    (folder / "pictures").mkdir()
    (folder / "pictures" / "notes.txt").write_text("none")
    done = aigc("fit", "--config", tiny, "--data", "image_folder", "--data.root", "pictures")
    check(done, ["pictures"])


def test_a_folder_with_too_many_broken_images_names_them_before_training(aigc, tiny, folder):
    (folder / "pictures").mkdir()
    for number in range(9):
        Image.new("RGB", (9, 9)).save(folder / "pictures" / f"{number}.png")
    (folder / "pictures" / "broken.png").write_bytes(b"\x89PNG no")
    done = aigc("fit", "--config", tiny, "--data", "image_folder", "--data.root", "pictures", "--data.size", "8")
    check(done, ["broken.png", "1 of 10", "data.max_bad"])
    assert "step 1" not in done.out


def test_channels_that_the_model_does_not_take(aigc, tiny, folder, monkeypatch):
    from aigc_lightning.models.dcgan import DCGAN

    monkeypatch.setattr(DCGAN, "channels", (3,))
    check(aigc("fit", "--config", tiny), ["DCGAN", "3 channels", "1", "grey"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there(accelerator, aigc, tiny):
    check(aigc("fit", "--config", tiny, "--trainer.accelerator", accelerator), ["GPU", "cpu"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_for_samples(aigc, trained):
    check(aigc("sample", trained, "--device", "cuda"), ["cuda", "--device cpu"])
    check(aigc("sample", trained, "--device", "toaster"), ["toaster", "--device cpu"])


def test_more_memory_than_there_is(aigc, tiny, monkeypatch):
    from aigc_lightning.models.dcgan import DCGAN

    # What torch says; a machine that promises more memory than it has would be filled by the real thing.
    says = (
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 25600000000 bytes. Error 12"
    )
    monkeypatch.setattr(DCGAN, "configure_model", lambda self: (_ for _ in ()).throw(RuntimeError(says)))
    check(aigc("fit", "--config", tiny), ["memory", "25.6 GB", "smaller model"])


def test_debug_shows_where_it_happened(aigc, tiny):
    done = aigc("fit", "--config", tiny, "--model.widht", "3", "--debug")
    assert done.code == 2 and "Traceback" in done.err and "model.widht" in done.err
    assert "Traceback" not in aigc("fit", "--config", tiny, "--model.widht", "3").err


def test_a_program_error_keeps_its_traceback(aigc, tiny, monkeypatch):
    from aigc_lightning.models.dcgan import DCGAN

    monkeypatch.setattr(DCGAN, "adversarial_step", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        aigc("fit", "--config", tiny)


def test_names_that_are_near_are_offered_and_others_are_not():
    assert did_you_mean("Batch-Size", ["batch_size", "size"]) == "Did you mean batch_size?"
    assert did_you_mean("xyz", ["a", "b"]) == "Known: a, b."
    assert did_you_mean("xyz", [f"option_{number}" for number in range(20)]) == ""
    assert did_you_mean("xyz", []) == ""


def test_the_text_of_an_error_has_both_parts():
    assert str(UserError("It broke.", "Mend it.")) == "It broke.\nMend it."
    assert str(UserError("It broke.")) == "It broke."


def check(done, said: list[str]) -> None:
    """Check that an outcome is a message for people."""
    shown = done.err + done.out
    assert done.code == 2, shown
    assert "Traceback" not in shown
    assert done.err.startswith("Error: ") and 1 <= len(done.lines) <= 4, done.err
    assert all(len(line) <= 400 for line in done.lines)
    for text in said:
        assert text in done.err
    assert not [word for word in ("<class", "typing.", "Namespace(", "NoneType") if word in done.err], done.err
    assert not logging.getLogger("aigc_lightning").handlers  # the run's log is closed
