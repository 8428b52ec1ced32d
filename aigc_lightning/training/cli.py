"""LightningCLI with short names, run folders and resuming."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import jsonargparse
from jsonargparse.typing import PositiveInt
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from aigc_lightning import compat
from aigc_lightning.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints
from aigc_lightning.callbacks.distillation import Distillation
from aigc_lightning.callbacks.grids import Grids
from aigc_lightning.callbacks.loggers import make_loggers
from aigc_lightning.config import explain, places, short_names, trainer_options
from aigc_lightning.config.parser import Parser
from aigc_lightning.config.recorded_options import settle
from aigc_lightning.config.request import Request, Stage, check_seed
from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.checkpoint import read_checkpoint
from aigc_lightning.core.ema import Ema
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.output import echo
from aigc_lightning.core.io.plural import counted
from aigc_lightning.core.io.redaction import redacted_text
from aigc_lightning.core.privacy.settings import Privacy
from aigc_lightning.core.rebuilding import recorded_components
from aigc_lightning.core.records import RECORD_KEY, check_finite
from aigc_lightning.core.run.environment import find_no_gpus_fast, restored_environment
from aigc_lightning.core.run.folder import CHECKPOINTS, LAST
from aigc_lightning.core.run.log import run_log, say
from aigc_lightning.core.run.memory import keep_memory
from aigc_lightning.core.run.quiet import quiet_console
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.base import ImageDataModule
from aigc_lightning.errors import UserError
from aigc_lightning.plugins.model_file import option_of
from aigc_lightning.training import averages, next_step, precision, profiling, resume
from aigc_lightning.training.engine_options import check_engine
from aigc_lightning.training.launch_check import answering, check_launch, cluster_environment
from aigc_lightning.training.own_callbacks import callbacks_of_training, callbacks_of_use
from aigc_lightning.training.predicting import check_predicts, say_predictions
from aigc_lightning.training.same_settings import check_same
from aigc_lightning.training.strategy import adversarial_strategy, automatic_strategy, started_safely
from aigc_lightning.training.trainer_values import check_values, listed, set_default_limit
from aigc_lightning.yaml_file import read_yaml


def run(stage: Stage, request: Request) -> Path:
    """Build and run a stage, and return the folder of its run.

    Raises:
        UserError: the options do not fit together, or what they name cannot be used.
    """
    with restored_environment(), quiet_console(), ExitStack() as resources:
        with explain.explained(stage):
            cli = TrainingCLI(stage, request, resources)
        with explain.explained(stage, running=True), answering(cli.trainer.strategy):
            cli.run()
    return cli.folder


class TrainingCLI(LightningCLI):
    """Parses one stage's options, builds data, model and trainer, and runs the stage.

    Args:
        stage: "fit", "validate", "test" or "predict".
        request: the prepared command line.
        resources: closed when the stage ends, such as the run's log.
    """

    def __init__(self, stage: Stage, request: Request, resources: ExitStack) -> None:
        self.stage = stage
        self.request = request
        self.resources = resources
        self.checkpoint: Path | None = None
        self.record: dict[str, Any] | None = None  # contents of the checkpoint
        short_names.limit(trusted=request.trust_config)
        if request.record_of is not None:
            resume.take_from_record(request)
        # The spec is a single value that comes from the data, not a group of options.
        jsonargparse.set_parsing_settings(subclasses_enabled=[ImageSpec])
        super().__init__(
            model_class=ImageModel,
            datamodule_class=ImageDataModule,
            trainer_class=precision.RunTrainer,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            trainer_defaults={"log_every_n_steps": 50, "num_sanity_val_steps": 0, "enable_model_summary": False},
            # A misspelt option must not match another one by its prefix.
            parser_kwargs={"exit_on_error": False, "allow_abbrev": False, stage: {"exit_on_error": False}},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # our checkpoints record how to build the model
            args=request.argv,
        )

    # ---- hooks of LightningCLI

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Build only this stage's parser, and expose none of the arguments of the trainer's method."""
        method = {"model", "dataloaders", "train_dataloaders", "val_dataloaders", "datamodule"}
        return {self.stage: method | {"ckpt_path", "weights_only", "verbose", "return_predictions"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a run that Lightning does not have."""
        self.stage_parser = parser
        parser.add_argument("--run", type=str | None, default=None, help="Folder of the run.")
        if self.stage == "fit":
            parser.add_argument("--resume", type=str | None, default=None, help="Continue a run: latest, or a path.")
        else:
            parser.add_argument("--checkpoint", type=str | None, default=None, help="A run folder or a checkpoint.")
        parser.add_argument("--max_images", type=int | None, default=None, help="Stop after this many images.")
        parser.add_argument("--logger", type=str | list[str] | None, default=None, help="wandb, tensorboard or both.")
        parser.add_argument("--compile", type=bool, default=False, help="Compile the networks.")
        parser.add_argument("--timeout", type=PositiveInt | None, default=None, help="Seconds to wait for a process.")
        for name, settings in {"engine": Engine, "ema": Ema, "privacy": Privacy, "distill": Distillation}.items():
            parser.add_class_arguments(settings, name)
        parser.add_lightning_class_args(Grids, "grids")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.link_arguments("data", "model.init_args.spec", compute_fn=_spec, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the prepared command line."""
        with _without_secrets(self.request):
            self.config = parser.parse_args([self.stage, *args])
        values = self.config[self.stage]
        places.check(self.stage_parser, values, short_names.allowed())
        trainer_options.check(values.trainer, trusted=self.request.trust_config)
        check_seed(values.seed_everything)
        if self.request.parse_only:
            sys.exit(0)

    @property
    def _trust(self) -> list[str]:
        """The options to repeat in commands that resume a run of a trusted config or model file."""
        trusted = ["--trust-config"] if self.request.trust_config else []
        return [*trusted, *option_of(str(self.config[self.stage].model.class_path))]

    def before_instantiate_classes(self) -> None:
        """Choose the run folder and checkpoint before anything is built."""
        values = self.config[self.stage]
        self._settle_recorded(values)
        check_launch(values.trainer)
        notes: list[str] = []
        if self.stage != "fit":
            self.checkpoint, self.folder = resume.run_of_checkpoint(values, self.request)
        elif not values.trainer.fast_dev_run:
            start = resume.start_of_run(values, self.request, self.resources)
            self.checkpoint, self.folder, notes = start.checkpoint, start.folder, start.notes
        if values.trainer.fast_dev_run:
            self.folder = resume.trial_folder(values, self.resources)
        if self.checkpoint is not None:
            self.record = read_checkpoint(self.checkpoint)
        chosen = precision.settle(values, self.record)
        if self.checkpoint is not None and self.record is not None:
            notes += check_same(self.checkpoint, self.record, values)
        if self.stage == "fit":
            self.resources.enter_context(run_log(self.folder, ["aigc", "fit", *self.request.argv, *self._trust]))
            for line in [*notes, *([chosen] if chosen else [])]:
                say(line)
        if precision.uses_cuda(values.trainer):
            self.resources.enter_context(precision.fast_products())
        else:
            keep_memory()
            find_no_gpus_fast()

    def _settle_recorded(self, values: Any) -> None:
        """Check the options that come from a run's config or record rather than from the user."""
        request = self.request
        recorded, origin = request.recorded, request.record_of
        if request.run_config is not None:
            recorded, origin = read_yaml(request.run_config), request.run_config
        settle(values, recorded, str(origin or "the config"), request.given)

    def instantiate_classes(self) -> None:
        """Build data, model and trainer; a resumed model takes its embedded components from the checkpoint."""
        with recorded_components((self.record or {}).get(RECORD_KEY)):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with our callbacks and loggers, and give the model its engine."""
        values = self.config_init[self.stage]
        self.model.engine = values["engine"]
        if self.stage == "fit":
            check_engine(self.model.engine, self.model)
        averages.settle(self.model, values["ema"], self.stage, self.request)
        trainer = values["trainer"]
        set_default_limit(trainer, values.get("max_images"))
        check_values(trainer)
        trainer["plugins"] = [*listed(trainer["plugins"]), *cluster_environment()]
        trainer["strategy"] = self._strategy(values)
        trainer["plugins"].append(AtomicCheckpointIO())
        trainer["logger"] = self._loggers(values) or False
        trainer["default_root_dir"] = str(self.folder)
        trainer["use_distributed_sampler"] = False  # our sampler distributes the samples itself
        trainer["enable_checkpointing"] = self.stage == "fit" and trainer["enable_checkpointing"] is not False
        trainer["profiler"] = profiling.profiler(trainer["profiler"], self.folder)
        trainer["callbacks"] = [*listed(trainer["callbacks"]), *self._own_callbacks(values)]
        if trainer["benchmark"] is None and not trainer["deterministic"] and precision.uses_cuda(trainer):
            trainer["benchmark"] = True  # all images of a run have one size, so cuDNN's benchmarks pay off
        built = self.trainer_class(**trainer, **kwargs)
        self._set_limits(built, values)
        return built

    def _loggers(self, values: Any) -> list[Logger]:
        """Return the loggers of a run, and those of the config."""
        own = make_loggers(listed(values.get("logger")), self.folder) if self.stage == "fit" else []
        return [*own, *(logger for logger in listed(values["trainer"]["logger"]) if isinstance(logger, Logger))]

    def _strategy(self, values: Any) -> Any:
        """Return the strategy that suits the model."""
        trainer = values["trainer"]
        trainer["strategy"] = started_safely(trainer["strategy"], self.model)
        if isinstance(self.model, AdversarialModel) and self.stage == "fit":
            return adversarial_strategy(trainer, type(self.model).__name__)
        return automatic_strategy(trainer, fits=self.stage == "fit", timeout=values["timeout"])

    def _own_callbacks(self, built: Any) -> list[Callback]:
        """Return the callbacks that a stage has in addition to the requested ones."""
        if self.stage != "fit":
            return callbacks_of_use(self.stage, built)
        values = self.config["fit"]
        return callbacks_of_training(self.stage_parser, values, built, self.datamodule, self.folder, self._trust)

    def _set_limits(self, trainer: Trainer, values: Any) -> None:
        """Set how long processes wait for one another, and the images after which a run ends."""
        if values["timeout"] and isinstance(trainer.strategy, DDPStrategy):
            compat.set_timeout(trainer.strategy, values["timeout"])
        if values.get("max_images") is not None:
            images_per_step = self.datamodule.batch_size * trainer.world_size
            trainer.fit_loop.epoch_loop.max_steps = max(1, -(-values["max_images"] // images_per_step))

    def fit(self, **_: Any) -> None:
        """Do nothing: `run` runs the stage once everything has been built."""

    validate = test = predict = fit

    # ---- running

    def run(self) -> None:
        """Run the stage and print where its results are."""
        if self.stage == "fit":
            step = self.record["global_step"] if self.record else 0
            if step and 0 <= self.trainer.max_steps <= step:
                if self.config["fit"].resume == "auto":  # a job that was restarted after its end
                    self._say_next()
                    return
                raise UserError(
                    f"{self.checkpoint} is at step {step} and the run ends at {self.trainer.max_steps}.",
                    "Give a larger --trainer.max_steps to continue.",
                )
            self.trainer.fit(self.model, self.datamodule, ckpt_path=self.checkpoint, weights_only=True)
            if self.trainer.interrupted:
                sys.exit(130)
            self._say_next()
            return
        if self.record is not None:
            self.model.take_settings(self.record["aigc"])
            self.model.configure_model()
            self.model.load_state_dict(self.record["state_dict"])
            check_finite(self.model, self.record["state_dict"], str(self.checkpoint))
        if self.stage == "predict":
            check_predicts(self.model)
        getattr(self.trainer, self.stage)(self.model, datamodule=self.datamodule)
        self._say_results()

    def _say_next(self) -> None:
        if not self.trainer.is_global_zero:
            return
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by a helper of the trainer
            echo("", f"The trial run of {counted(self.trainer.max_steps, 'batch')} succeeded; nothing is kept.")
            return
        echo("", f"Run folder: {self.folder}")
        self._say_reports()
        following = next_step.sampling(self.model, self.folder)
        if following and (self.folder / CHECKPOINTS / LAST).is_file():
            echo(f"Next: {following}")

    def _say_reports(self) -> None:
        if self.config_init[self.stage]["trainer"]["profiler"] is not None:
            for path in profiling.reports(self.folder):
                echo(f"Profile: {path}")

    def _say_results(self) -> None:
        if not self.trainer.is_global_zero:
            return
        self._say_reports()
        for name, value in sorted(self.trainer.callback_metrics.items()):
            echo(f"{name}: {float(value):.6g}")
        if self.stage == "predict" and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            say_predictions(self.trainer, self.model, self.folder)
        elif not self.trainer.callback_metrics:
            echo(f"{type(self.model).__name__} has no score for this data.")


@contextmanager
def _without_secrets(request: Request) -> Iterator[None]:
    """Redact secrets in the config that jsonargparse prints during the block, if the command line asks for it."""
    if not request.prints_only:
        yield
        return
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        sys.stdout.write(redacted_text(printed.getvalue()))


def _spec(data: ImageDataModule) -> Any:
    return data.spec
