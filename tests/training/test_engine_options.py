"""Settings of the engine act, or are refused with what to use instead."""

import pytest
import torch

from aigc_lightning.core.checkpoint import read_checkpoint

VAE = ["--model=vae", "--model.width=8", "--model.latent_size=4", "--data=digits", "--data.size=8"]
VAE += ["--data.batch_size=8", "--grids.num=4", "--trainer.max_steps=3", "--trainer.limit_val_batches=0"]

SHARDED = "--trainer.strategy=model_parallel --trainer.devices=2 --trainer.precision=64-true"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--engine.clip_norm=1", ["engine.clip_norm", "VAE", "--trainer.gradient_clip_val 1"]),
        ("--engine.augment=diff", ["engine.augment", "VAE", "--data.augmentation"]),
        ("--engine.augment_policies=color", ["engine.augment_policies", "VAE"]),
        ("--engine.max_skipped=2", ["engine.max_skipped", "VAE"]),
        ("--engine.checkpoint_activations=true --model=cnn", ["engine.checkpoint_activations", "CNN"]),
        ("--trainer.strategy=fsdp --trainer.devices=2", ["fsdp", "--trainer.strategy model_parallel"]),
        (SHARDED, ["model_parallel", "64-true", "bf16-mixed"]),
        (SHARDED.replace("64-true", "32") + " --trainer.sync_batchnorm=true", ["trainer.sync_batchnorm"]),
        (SHARDED + " --model=dcgan", ["DCGAN", "model_parallel", "one optimizer"]),
        ("--trainer.accumulate_grad_batches=2", ["trainer.accumulate_grad_batches", "--engine.micro_batches"]),
    ],
)
def test_what_does_not_act_on_one_optimizer_is_refused(option, said, aigc, folder):
    done = aigc("fit", *[old for old in VAE if "--model=" not in option or "model" not in old], *option.split())
    assert done.code == 2 and len(done.lines) <= 4 and all(text in done.err for text in said), done.err


def test_micro_batches_give_the_same_run(aigc, folder):
    for parts in (1, 3):
        options = [f"--engine.micro_batches={parts}", "--trainer.precision=64-true", f"--run={parts}"]
        done = aigc("fit", *VAE, *options)
        assert done.code == 0, done.err
    one, three = (read_checkpoint(folder / str(parts) / "checkpoints" / "last.ckpt") for parts in (1, 3))
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(three["state_dict"][name], value, rtol=1e-9, atol=1e-9)
    assert three["global_step"] == 3 and three["aigc"]["engine"]["micro_batches"] == 3
    refused = aigc("fit", "--resume=3", "--engine.micro_batches=2", "--trainer.max_steps=4")
    assert refused.code == 2 and "engine.micro_batches is 3 there and 2 here" in refused.err
    assert aigc("fit", "--resume=3", "--trainer.max_steps=4").code == 0


def test_free_bits_need_whole_batches(aigc, folder):
    done = aigc("fit", *VAE, "--engine.micro_batches=2", "--model.free_nats=0.1")
    assert done.code == 2 and "model.free_nats" in done.err and "engine.micro_batches" in done.err
