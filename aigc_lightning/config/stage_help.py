"""The help of `aigc fit`, `validate`, `test` and `predict`: the most common options, on one screen."""

import textwrap

from aigc_lightning import plugins
from aigc_lightning.config.request import Stage


def short_help(stage: Stage) -> str:
    """Return the help of the most common options, on one screen."""
    models, data = (_listed([plugin.name for plugin in plugins.plugins(kind)]) for kind in ("model", "data"))
    head = {
        "fit": "Train a model on data.",
        "validate": "Score a checkpoint on held-out images.",
        "test": "Score a checkpoint on the data's test images.",
        "predict": "Write a checkpoint's output for the data's test images.",
    }[stage]
    own = _FIT_HELP if stage == "fit" else _USE_HELP
    return f"""{head}

Usage: aigc {stage} --config NAME_OR_FILE [--config MORE.yaml] [OPTIONS]
       aigc {stage} --model NAME --data NAME [OPTIONS]

What
  --config C             a preset (see: aigc configs) or a YAML file; later ones win over earlier ones
  --model M              {models}
  --model FILE.py:CLASS  a model of a file of yours, without a package
  --model.OPTION V       an option of the model, such as --model.width 32
  --data D               {data}
  --data.OPTION V        an option of the data, such as --data.batch_size 32
  --seed_everything N    seed of the run (0)
{own}
Machine
  --trainer.accelerator A   auto, cpu, gpu, mps
  --trainer.devices N       how many of them
  --trainer.num_nodes N     machines; several are started by torchrun or srun, see: aigc job --help
  --trainer.precision P     auto (bf16-mixed where the device is made for it), 32-true, bf16-mixed, 16-mixed
  --compile true            compile the networks at the start, for long runs
  --timeout S               seconds to wait for another process before giving up (1800)
  --trainer.OPTION V        an option of Lightning's Trainer, see docs/training.md

Help
  --print_config         the whole config, every default written out, and nothing else
  --help-all             every option
  --trust-config         let the config import and run any code; only for configs that you trust
  --debug                show the traceback of an error

Examples
{_EXAMPLES[stage]}"""


def _listed(names: list[str]) -> str:
    """Return names, wrapped to fit beside the options."""
    text = ", ".join([*names, "or a class path"])
    return textwrap.fill(text, 118 - _BESIDE, break_on_hyphens=False).replace("\n", "\n" + " " * _BESIDE)


_EXAMPLES = {
    "fit": """  aigc fit --config dcgan_digits
  aigc fit --config dcgan_digits --model.width 32 --trainer.max_steps 5000 --run wide
  aigc fit --model dcgan --data image_folder --data.root photographs --data.size 64
  aigc fit --model my_file.py:MyGAN --data digits
  aigc fit --resume runs/dcgan_digits/1 --trainer.max_steps 10000""",
    "validate": """  aigc validate --checkpoint runs/vae_digits/1""",
    "test": """  aigc test --checkpoint runs/cnn_digits/1
  aigc test --checkpoint best.ckpt --config cnn_digits --run scores""",
    "predict": """  aigc predict --checkpoint runs/cnn_digits/1 --data.batch_size 100""",
}
_BESIDE = 25  # width of the options column
_FIT_HELP = """
How long
  --trainer.max_steps N    batches (5000 when no end is given)
  --trainer.max_epochs N   passes over the data
  --trainer.max_time T     such as 00:00:30:00 for half an hour
  --max_images N           images seen

Run folder
  --run DIR              where the run goes (runs/<config>/<number>); never overwrites another run
  --resume [RUN|FILE]    continue a run: the latest of this config, a run folder or a checkpoint
  --resume auto          continue the run if there is one, else start it; for jobs that restart automatically
  --logger L             wandb, tensorboard or [wandb,tensorboard], beside metrics.csv
  --grids.every_n_steps N          a picture of samples every N batches (500)
  --grids.num N                    samples in it (64)
  --checkpoints.every_n_steps N    save last.ckpt every N batches (1000)
  --checkpoints.every_n_minutes M  and every M minutes (10)
  --checkpoints.monitor S          score that chooses best.ckpt (named by the model)
  --trainer.val_check_interval V   how often to score held-out images
  --trainer.log_every_n_steps N    how often to write losses (50)

Moving average of the weights, with which samples and scores are made
  --ema.decay D               part of it that a step keeps, 0 for no average (0.999)
  --ema.half_life_images N    instead, the images after which weights count half
  --ema.relative_widths W,W   instead, widths such as 0.05,0.10; see: aigc ema --help

Memory, privacy and distillation
  --engine.micro_batches K               process a batch in K parts; more ways: docs/training.md (1)
  --privacy.epsilon E                    a guarantee for each image (docs/trust.md), with --privacy.delta
  --distill.teacher RUN                  learn from a trained model as well (docs/distillation.md)
"""
_USE_HELP = """
Which
  --checkpoint C         a run folder or a checkpoint; its config is used when none is given
  --run DIR              where results go (the run folder of the checkpoint)
"""
