"""What the capabilities of a diffusion model build on: its states, what is asked of it, and its samplers.

Shapes: B batch, C channels, H and W height and width. Images lie in [-1, 1].
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.denoiser import Denoiser
from aigc_diffusion.guidance import NO_GUIDANCE, Asked, Guidance, check_guidance, guiding_model
from aigc_diffusion.latents import as_maps
from aigc_diffusion.networks.choice import ConditionalNetwork
from aigc_diffusion.networks.conditions import ConditionedNetwork
from aigc_diffusion.processes import MeanFlow, Process
from aigc_diffusion.samplers import Sampler, SamplerName, keyed_noise, make_sampler, start

SamplerChoice = Literal["auto", "euler", "heun", "dpmpp_2m", "ddim", "ancestral"]


class DenoisingModel(ImageModel):
    """A network with a process and, perhaps, a first stage, all of which `Diffusion` builds and trains."""

    process: Process
    network: ConditionalNetwork
    condition_name: str
    condition_dropout: float
    first_stage: ImageModel | None
    state_shape: tuple[int, int, int]
    latent_mean: Tensor
    latent_std: Tensor
    _latents_are_maps: bool

    # ---- states: the images themselves, or their latents

    def states(self, images: Tensor) -> Tensor:
        """Return what the process works on, for images (B, C, H, W): themselves, or normalised latents."""
        if self.first_stage is None:
            return images
        first_stage: Any = self.first_stage
        with torch.no_grad():
            return self._normalised(first_stage.encode(images))

    def images(self, states: Tensor) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] of states."""
        if self.first_stage is None:
            return states.clamp(-1, 1)
        first_stage: Any = self.first_stage
        latents = states * self.latent_std + self.latent_mean
        images: Tensor = first_stage.decode(latents if self._latents_are_maps else latents.flatten(1))
        return images.clamp(-1, 1)

    def _normalised(self, latents: Tensor) -> Tensor:
        return (as_maps(latents).to(self.latent_mean) - self.latent_mean) / self.latent_std

    def _batch_states(self, batch: Any, key: str) -> Tensor:
        """Return the states of a batch's images, or of the latents that it has instead."""
        return self._normalised(batch["latent"]) if "latent" in batch else self.states(batch[key])

    # ---- conditions

    def _asked(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None,
        prompts: Sequence[str] | None,
        unless_given: Literal["any", "none"] = "any",
        guidance: Guidance = NO_GUIDANCE,
    ) -> Asked:
        """Return what is asked of a sampler, checked.

        Args:
            seeds: whose remainders are the classes by default.
            labels: the classes, or None.
            prompts: the texts, or None.
            unless_given: whether a model with classes then makes any class, or is asked without a class.
            guidance: refused where nothing is given that it could strengthen.
        """
        for name, value in (("labels", labels), ("prompts", prompts)):
            if value is not None and name in self.without_conditions:
                raise UserError(f"This diffusion model was trained without {name}.", f"Leave {name} out.")
        given = prompts is not None or (self.condition_name == "labels" and (labels or unless_given == "any"))
        if guidance.scale != 1 and not guidance.guide:
            check_guidance(self.condition_name != "none" and self.condition_dropout > 0, bool(given), guidance.scale)
        classes = [seed % max(self.network.num_classes, 1) for seed in seeds] if labels is None else labels
        if labels is None and unless_given == "none":
            classes = [self.network.num_classes] * len(seeds)
        return Asked(tuple(classes), ("",) * len(seeds) if prompts is None else tuple(prompts))

    # ---- sampling

    def predictor(self, asked: Asked) -> ConditionedNetwork:
        """Return the averaged network with what is asked of it filled in."""
        network: Any = self.averaged("network")
        labels = torch.tensor(asked.labels, device=self.device) if asked.labels else None
        with torch.no_grad():
            return ConditionedNetwork(network.predict, network.conditions(labels, asked.prompts, image=asked.source))

    def _denoiser(self, asked: Asked, guidance: Guidance = NO_GUIDANCE) -> Denoiser:
        guide = None
        if guidance.guide:
            guide = guiding_model(self, guidance.guide).predictor(asked)
        elif guidance.scale != 1:
            guide = self.predictor(asked.without_conditions(self.network.num_classes))
        interval = guidance.interval(self.process)
        return Denoiser(self.process, self.predictor(asked), guidance=guidance.scale, guide=guide, interval=interval)

    def _sampler(
        self,
        asked: Asked,
        seeds: Sequence[int],
        shape: tuple[int, ...],
        name: SamplerChoice,
        guidance: Guidance = NO_GUIDANCE,
    ) -> Sampler:
        draw = keyed_noise(seeds, (shape[0], shape[1], shape[2]), self.device)
        return make_sampler(self._sampler_name(name), self.process, self._denoiser(asked, guidance), draw)

    def _sampler_name(self, name: SamplerChoice) -> SamplerName:
        if name == "auto":
            return "euler" if isinstance(self.process, MeanFlow) else "dpmpp_2m"
        return name

    def _made(self, sampler: Sampler, noise: Tensor, steps: int) -> Tensor:
        return self.images(sampler.run(start(self.process, noise), sampler.times(steps)))

    def _check_generates(self) -> None:
        if self.spec.task != "generation":
            raise UserError(
                f"This diffusion model was trained on {self.spec.task} images: it changes images and makes none from "
                "nothing.",
                "Use `aigc edit`.",
            )
