"""Diffusion and flow matching: a network that learns to remove noise, and samplers that make images with it.

Papers: Lipman et al., Flow Matching, ICLR 2023, https://arxiv.org/abs/2210.02747; Karras et al., EDM, NeurIPS 2022,
https://arxiv.org/abs/2206.00364; Ho et al., DDPM, NeurIPS 2020, https://arxiv.org/abs/2006.11239; Geng et al.,
MeanFlow, NeurIPS 2025, https://arxiv.org/abs/2505.13447; Ho and Salimans, Classifier-Free Diffusion Guidance, 2022,
https://arxiv.org/abs/2207.12598
Departures from the papers: the parts are chosen by name and go together as far as the mathematics allows; the defaults
are small enough for two processor cores.
Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from aigc_lightning.core import keyed
from aigc_lightning.core.batch import check_needs
from aigc_lightning.core.component import check_encoder, embedded
from aigc_lightning.core.engine.muon import Muon
from aigc_lightning.core.engine.schedules import warm_cosine
from aigc_lightning.core.numbers import check_numbers
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.networks.byte_encoder import ByteEncoder
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW, Optimizer

from aigc_diffusion.attending import DiffusionAttention
from aigc_diffusion.augment import LABEL_SIZE, NUM_DRAWS, augment
from aigc_diffusion.latents import state_shape
from aigc_diffusion.networks.choice import ConditionalNetwork, NetworkName, make_network, make_text_encoder
from aigc_diffusion.networks.conditions import ConditionedNetwork, Conditions
from aigc_diffusion.networks.dit import DiTBlock
from aigc_diffusion.networks.unet_blocks import Stage
from aigc_diffusion.processes import EDM, Process, make_process, standard_deviation
from aigc_diffusion.times import TimeSampling, make_time_sampling
from aigc_diffusion.weights import LossWeight, make_loss_weight

ProcessName = Literal["flow", "edm", "vp", "mean_flow"]
ConditionName = Literal["none", "labels", "prompts"]
_NOISE, _LEVEL = 1, 2  # keys of the draws for held-out images
_SCALE_IMAGES = 4096  # from which the standard deviation of data and latents is measured
_AT_ONCE = 64  # of these in the first stage


class Diffusion(DiffusionAttention):
    """Diffusion or flow-matching model for generation, and for translation, restoration and inpainting.

    It generates images, of a class or for a prompt if it was trained with these; changes images (`aigc edit`); walks
    between them; and estimates likelihoods. Trained on pairs or on degraded images, it translates or restores.

    Held-out images give `val/loss`, the loss of the averaged network at noise levels that are the same in every
    validation.

    Args:
        spec: format of the images; declared by the data.
        process: "flow" (flow matching), "edm", "vp" (DDPM) or "mean_flow" (for sampling in 1 to 4 steps).
        process_options: arguments of the process, such as {"prediction": "x0"} or {"schedule": "linear"}; EDM's
            sigma_data is measured from the training data by default.
        network: "unet" or "dit".
        network_options: arguments of the network that differ from those of a small one, such as {"width": 64}.
        first_stage: run, checkpoint or address of an autoencoder, vae or tokenizer, in whose latents the model works
            (latent diffusion); its weights become part of the checkpoints. None works on pixels.
        conditions: what generation is controlled by: "none", "labels" (the data's classes) or "prompts" (its captions).
        text_options: arguments of the text encoder, a transformer over bytes, for conditions "prompts": {"size": 128,
            "depth": 3, "heads": 4, "max_length": 96}.
        condition_dropout: share of the samples that are trained without the condition, for guidance.
        time_sampling: distribution of noise levels in training: "uniform", "logit_normal" or "log_normal"; "auto" for
            "log_normal" with EDM, else "uniform".
        time_options: of that distribution: "mean" and "std" of the logarithm of the noise-to-signal ratio, and "shift".
        loss_weight: "none", "min_snr", "uncertainty" or "adaptive"; "auto" for "adaptive" with MeanFlow, else "none".
        augment_probability: probability of each of EDM's augmentations, of which the network is told; 0 for none.
        optimizer: "adamw", or "muon", which trains the weights of layers along orthogonalized momentum and the rest by
            AdamW: fewer steps, each of them slower.
        lr: peak learning rate.
        beta2: AdamW's second decay rate.
        weight_decay: decoupled; with "muon", of the weights that it trains.
        warmup_steps: batches of linear warm-up to the learning rate.
        schedule_steps: batches until the learning rate is 0 again, usually `trainer.max_steps`; None keeps it.

    Raises:
        UserError: the data has not what the conditions need, the parts do not go together, or an argument is out of
            range.
    """

    aigc_api = 1
    averaged_networks = ("network",)
    block_classes = (Stage, DiTBlock, ByteEncoder)
    size_multiple = 1
    sigma_data: Tensor

    def __init__(
        self,
        spec: ImageSpec,
        process: ProcessName = "flow",
        process_options: dict[str, Any] | None = None,
        network: NetworkName = "unet",
        network_options: dict[str, Any] | None = None,
        first_stage: str | None = None,
        conditions: ConditionName = "none",
        text_options: dict[str, int] | None = None,
        condition_dropout: float = 0.1,
        time_sampling: Literal["auto", "uniform", "logit_normal", "log_normal"] = "auto",
        time_options: dict[str, float] | None = None,
        loss_weight: Literal["auto", "none", "min_snr", "uncertainty", "adaptive"] = "auto",
        augment_probability: float = 0.0,
        optimizer: Literal["adamw", "muon"] = "adamw",
        lr: float = 1e-3,
        beta2: float = 0.99,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        schedule_steps: int | None = None,
    ) -> None:
        super().__init__(spec)
        _check_data(spec, conditions, augment_probability)
        if first_stage is not None and augment_probability:
            raise UserError("model.augment_probability would move latents.", "Augment the data: --data.augmentation.")
        check_numbers(lr=lr, schedule_steps=1 if schedule_steps is None else schedule_steps)
        check_numbers(zero=True, weight_decay=weight_decay, warmup_steps=warmup_steps)
        for name, share in (("condition_dropout", condition_dropout), ("augment_probability", augment_probability)):
            if not 0 <= share <= 1:
                raise UserError(f"model.{name} is {share}.", "Give a number from 0 to 1.")
        if text_options and conditions != "prompts":
            raise UserError(f'model.text_options acts with conditions "prompts", not "{conditions}".', "Leave it out.")
        if not 0 <= beta2 < 1:
            raise UserError(f"model.beta2 is {beta2}.", "Give a number of at least 0 and below 1.")
        masks = () if spec.task == "generation" else ("masks",)
        self.keeps_unmasked = spec.task == "generation"
        self.without_conditions = (*({"labels", "prompts"} - {conditions}), *masks)
        self.condition_name, self.condition_dropout = conditions, condition_dropout
        self.augment_probability = augment_probability
        self.optimizer, self.lr, self.beta2, self.weight_decay = optimizer, lr, beta2, weight_decay
        self.warmup_steps, self.schedule_steps = warmup_steps, schedule_steps
        self.first_stage = None if first_stage is None else embedded(self, "first_stage", first_stage)
        self.encoded_keys = () if first_stage is None else ("latent",)
        self.state_shape, self._latents_are_maps = state_shape(self.first_stage, spec)
        if self.first_stage is not None:
            self.register_buffer("latent_mean", torch.zeros(self.state_shape[0], 1, 1))
            self.register_buffer("latent_std", torch.ones(self.state_shape[0], 1, 1))
        self._measures_sigma = process == "edm" and "sigma_data" not in (process_options or {})
        self.process: Process = make_process(process, **(process_options or {}))
        self.register_buffer("sigma_data", torch.tensor(getattr(self.process, "sigma_data", 0.0)))
        self.register_load_state_dict_post_hook(_take_sigma_data)  # type: ignore[no-untyped-call]  # torch has no types
        self._times = (time_sampling, time_options or {})
        _time_sampling(self.process, *self._times)  # refuses what does not go together
        weight: LossWeight = (
            ("adaptive" if process == "mean_flow" else "none") if loss_weight == "auto" else loss_weight
        )
        self.loss_weight = make_loss_weight(weight, self.process)
        self.network = make_network(
            network,
            network_options or {},
            make_text_encoder(text_options or {}) if conditions == "prompts" else None,
            num_classes=spec.num_classes if conditions == "labels" else 0,
            channels=self.state_shape[0],
            extra_channels=self.state_shape[0] if spec.task in _SOURCES else 0,
            augmentation_size=LABEL_SIZE if augment_probability else 0,
            level_size=self.process.level_size,
        )

    # ---- training

    def setup_from_data(self, data: Any) -> None:
        """Measure mean and standard deviation of the latents, and EDM's sigma_data, on training images."""
        if self.first_stage is None and not self._measures_sigma:
            return
        batch = data.training_batch(_SCALE_IMAGES)
        if self.first_stage is not None:
            states = torch.cat([self._batch_states(part, "image") for part in _parts(batch)])
            deviation, mean = torch.std_mean(states.double(), dim=(0, 2, 3), correction=0)
            self.latent_mean.copy_(mean[:, None, None])
            self.latent_std.copy_(deviation.clamp_min(1e-6)[:, None, None])
        if self._measures_sigma:
            states = torch.cat([self._batch_states(part, _TARGETS[self.spec.task]) for part in _parts(batch)])
            self.sigma_data.fill_(standard_deviation([states]))
            _take_sigma_data(self)

    def on_fit_start(self) -> None:
        """Check that encoded data was encoded by this model's first stage.

        Raises:
            UserError: it was encoded by another one.
        """
        check_encoder(self, "first_stage")
        super().on_fit_start()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        images = self._batch_states(batch, _TARGETS[self.spec.task])
        count = len(images)
        keep = self.uniform(count) >= self.condition_dropout if self.condition_dropout else None
        augmentation = None
        if self.augment_probability:
            images, augmentation = augment(images, self.uniform(count, NUM_DRAWS), self.augment_probability)
        conditions = self._of_batch(self.network, batch, keep, augmentation)
        times = self.process.training_times(
            _time_sampling(self.process, *self._times), self.uniform(count, self.process.draws)
        )
        network = ConditionedNetwork(self.network.predict, conditions)
        errors = self.process.errors(network, images, self.noise(count, *images.shape[1:]), times)
        self.record("error", errors.detach().mean())
        loss: Tensor = self.loss_weight(errors, times[:, 0]).mean()
        self.record("loss", loss)
        return loss * self.share

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Record the errors of the averaged network, with noise that depends on the sample alone."""
        images, indices = self._batch_states(batch, _TARGETS[self.spec.task]), batch["index"].tolist()
        noise = torch.stack([keyed.normal(tuple(images.shape[1:]), index, _NOISE) for index in indices]).to(images)
        draws = keyed.uniform(batch["index"].cpu().numpy()[:, None], _LEVEL, torch.arange(self.process.draws).numpy())
        times = self.process.training_times(
            _time_sampling(self.process, *self._times), torch.from_numpy(draws).to(images.device)
        )
        network: Any = self.averaged("network")
        conditions = ConditionedNetwork(network.predict, self._of_batch(network, batch, None, None))
        self.log_held_out("loss", self.process.errors(conditions, images, noise, times))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizer with a warm-up and, if the number of steps is given, a cosine decay."""
        parts, betas, decay = [self.network, self.loss_weight], (0.9, self.beta2), self.weight_decay
        optimizer: Optimizer
        if self.optimizer == "muon":
            optimizer = Muon(parts, self.lr, betas=betas, weight_decay=decay)
        else:
            parameters = [parameter for part in parts for parameter in part.parameters()]
            optimizer = AdamW(parameters, self.lr, betas=betas, weight_decay=decay)
        scheduler = warm_cosine(optimizer, self.warmup_steps, self.schedule_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _of_batch(
        self, network: ConditionalNetwork, batch: Any, keep: Tensor | None, augmentation: Tensor | None
    ) -> Conditions:
        source = self.states(batch[_SOURCES[self.spec.task]]) if self.spec.task in _SOURCES else None
        return network.conditions(batch.get("label"), batch.get("caption"), keep, source, augmentation)


#: The images that are learned, and those that they are made from, by task.
_TARGETS = {"generation": "image", "paired": "target", "restoration": "image"}
_SOURCES = {"paired": "source", "restoration": "degraded"}


def _check_data(spec: ImageSpec, conditions: ConditionName, augment_probability: float) -> None:
    if spec.task not in _TARGETS:
        raise UserError(f"The diffusion model cannot learn from {spec.task} images.", "Use cyclegan for these.")
    if spec.scale != 1:
        raise UserError(f"The degraded images are {spec.scale} times smaller than the clean ones.", "Use equal sizes.")
    if spec.task in _SOURCES and augment_probability:
        raise UserError(
            f"model.augment_probability would move the images but not their {_SOURCES[spec.task]} images.",
            "Augment the data instead: --data.augmentation.",
        )
    needs = {"labels": ["label"], "prompts": ["caption"]}.get(conditions, [])
    check_needs("A diffusion model with such conditions", needs, spec)


def _parts(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tensors of a batch in parts that an encoder has room for."""
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    for first in range(0, len(batch["index"]), _AT_ONCE):
        yield {name: value[first : first + _AT_ONCE] for name, value in tensors.items()}


def _take_sigma_data(model: Diffusion, *_: Any) -> None:
    """Let the process know what has been measured, or loaded."""
    if isinstance(model.process, EDM):
        model.process.sigma_data = float(model.sigma_data)


def _time_sampling(process: Process, name: str, options: dict[str, float]) -> TimeSampling:
    is_edm = isinstance(process, EDM)
    chosen: Any = ("log_normal" if is_edm else "uniform") if name == "auto" else name
    unknown = [option for option in options if option not in ("mean", "std", "shift")]
    if unknown:
        raise UserError(f"model.time_options has {unknown[0]!r}.", "It takes mean, std and shift.")
    paper = {"mean": -1.2, "std": 1.2} if is_edm else {}
    return make_time_sampling(chosen, process, **{**paper, **options})
