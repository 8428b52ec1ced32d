"""What a trained diffusion model is used for: generating, editing, inverting and scoring images.

Shapes: B batch, C channels, H and W height and width in pixels. Images lie in [-1, 1].
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from aigc_lightning.core.export_graphs import ExportGraph
from aigc_lightning.core.image_model import seeded_normal
from aigc_lightning.errors import UserError
from aigc_lightning.losses.dequantisation import dequantised, log_probability
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from aigc_diffusion.denoiser import Denoiser
from aigc_diffusion.denoising_model import DenoisingModel, SamplerChoice
from aigc_diffusion.exporting import export_graphs
from aigc_diffusion.filling import filled
from aigc_diffusion.guidance import Asked, Guidance, guide_component
from aigc_diffusion.likelihood import keyed_probes, log_likelihood
from aigc_diffusion.samplers import encode, make_sampler, start


class DiffusionInference(DenoisingModel):
    """The capabilities of a diffusion model."""

    likelihood_kind = "estimate"

    def sample(
        self,
        seeds: Sequence[int],
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        steps: int = 18,
        sampler: SamplerChoice = "auto",
        guidance: float = 1.0,
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
        guide: str = "",
    ) -> Tensor:
        """Return one image per seed, (B, C, H, W) in [-1, 1], from the averaged network.

        Args:
            seeds: non-negative.
            labels: the class of each image, for models with classes; by default seed mod K, so that neighbouring seeds
                show all classes.
            prompts: the text of each image, for models with prompts; none by default.
            steps: of the sampler.
            sampler: "euler", "heun" (2 evaluations a step), "dpmpp_2m", "ddim" or "ancestral"; "auto" for "euler" with
                MeanFlow, else "dpmpp_2m".
            guidance: strength of class or prompt, or distance from the guide; 1 is none.
            guidance_start: share of the sampler's time after which there is guidance.
            guidance_end: share of the sampler's time after which there is none any more.
            guide: an earlier or smaller run of the same kind, away from which the images are led (autoguidance);
                without it, guidance leads away from images without the condition.

        Raises:
            UserError: an option is out of range, or the model was trained for pairs.
        """
        self._check_generates()
        chosen = Guidance(guidance, guidance_start, guidance_end, guide)
        with self.inference():
            asked = self._asked(seeds, labels, prompts, guidance=chosen)
            return self._made(
                self._sampler(asked, seeds, self.state_shape, sampler, chosen), self.latents(seeds), steps
            )

    def network_evaluations(
        self,
        *,
        steps: int = 18,
        sampler: SamplerChoice = "auto",
        guidance: float = 1.0,
        guidance_start: float = 0.0,
        guidance_end: float = 1.0,
        guide: str = "",
    ) -> int:
        """Return how often networks are evaluated for an image of `sample` with these options: the NFE."""
        chosen = Guidance(guidance, guidance_start, guidance_end, guide)

        def nothing(state: Tensor, level: Tensor) -> Tensor:
            return torch.zeros_like(state)

        counted = Denoiser(
            self.process,
            nothing,
            guidance=guidance,
            guide=nothing if guidance != 1 else None,
            interval=chosen.interval(self.process),
        )
        one = torch.zeros(1, 1, 1, 1)
        made = make_sampler(self._sampler_name(sampler), self.process, counted, lambda number: one)
        made.run(start(self.process, one), made.times(steps))
        return counted.evaluations

    def named_components(self, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the SHA-256 of the guide's weights if the options name one."""
        return {"guide": guide_component(options["guide"]).sha256} if options.get("guide") else {}

    def export_graphs(self) -> dict[str, ExportGraph | str]:
        """Return the network as a program, with the sampler's loop beside it, and why nothing else is exported."""
        return export_graphs(self)

    def latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the noise of each seed, (B, C, H, W) of the model's states, standard normal."""
        return seeded_normal(seeds, *self.state_shape).to(self.device)

    def decode(
        self,
        latents: Tensor,
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        steps: int = 18,
        sampler: Literal["auto", "euler", "heun", "dpmpp_2m"] = "auto",
        guidance: float = 1.0,
    ) -> Tensor:
        """Return the images (B, C, H, W) in [-1, 1] to which the probability-flow ODE takes the noise of `latents`.

        Args:
            latents: of the shape that `latents` returns, on any device.
            labels: the class of each image, for models with classes; class 0 by default.
            prompts: the text of each image, for models with prompts; none by default.
            steps: of the sampler.
            sampler: see `sample`.
            guidance: strength of class or prompt; 1 is none.
        """
        self._check_generates()
        with self.inference():
            asked = self._asked([0] * len(latents), labels, prompts, guidance=Guidance(guidance))
            made = self._sampler(asked, [], self.state_shape, sampler, Guidance(guidance))
            return self._made(made, latents.to(self.device), steps)

    def invert(
        self,
        images: Tensor,
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        *,
        steps: int = 50,
    ) -> Tensor:
        """Return the noise from which the ODE makes images (B, C, H, W): `decode` turns it into them again.

        Args:
            images: in [-1, 1], of the spec's size.
            labels: the class of each, for models with classes; class 0 by default, as in `decode`.
            prompts: the text of each, for models with prompts.
            steps: of Heun's method.
        """
        self._check_generates()
        with self.inference():
            asked = self._asked([0] * len(images), labels, prompts)
            return encode(self.process, self._denoiser(asked), self.states(images), steps)

    def edit(
        self,
        images: Tensor,
        *,
        masks: Tensor | None = None,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        strength: float = 0.0,
        steps: int = 18,
        sampler: SamplerChoice = "auto",
        guidance: float = 1.0,
    ) -> Tensor:
        """Return edited images, float (B, C, H, W) in [-1, 1].

        A model of pairs or degraded images translates or restores them. Another adds noise and removes it again
        (Meng et al., SDEdit, ICLR 2022, https://arxiv.org/abs/2108.01073), within a mask if there is one; the rest of
        the image stays exactly as it is.

        Args:
            images: (B, C, H, W) in [-1, 1].
            masks: (B, 1, H, W), 1 where there is something to fill in.
            prompts: the text of each image, for models with prompts.
            seeds: of the noise, one per image; 0 for all by default.
            strength: share of the sampler's time at which it begins, up to 1, which keeps nothing of what is to be
                filled in; 0 chooses 0.6, and 1 with a mask.
            steps: of the whole sampler.
            sampler: see `sample`.
            guidance: strength of the prompt; 1 is none.

        Raises:
            UserError: an option is out of range, or does not go with what the model was trained for.
        """
        seeds = [0] * len(images) if seeds is None else seeds
        if not 0 <= strength <= 1:
            raise UserError(f"strength is {strength}.", "Give a number from 0 to 1.")
        images = images.to(self.device)
        with self.inference():
            states = self.states(images)
            shape = (*states.shape[1:],)
            noise = seeded_normal(seeds, *shape).to(self.device)
            if self.spec.task != "generation":
                if masks is not None or strength or guidance != 1:
                    raise UserError(
                        f"This diffusion model was trained on {self.spec.task} images, which it changes as a whole.",
                        "Leave masks, strength and guidance out.",
                    )
                return self._made(self._sampler(Asked(source=states), seeds, shape, sampler), noise, steps)
            asked = self._asked(seeds, None, prompts, unless_given="none", guidance=Guidance(guidance))
            made = self._sampler(asked, seeds, shape, sampler, Guidance(guidance))
            fill = None if masks is None else masks.to(self.device)
            strength = strength or (0.6 if masks is None else 1.0)
            small = fill if fill is None or fill.shape[-2:] == shape[-2:] else adaptive_max_pool2d(fill, shape[-2:])
            changed = self.images(filled(made, states, noise, small, strength, steps))
            return changed if fill is None else torch.where(fill > 0, changed, images)

    def log_likelihood(
        self,
        images: Tensor,
        labels: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        *,
        steps: int = 50,
        probes: int = 1,
    ) -> Tensor:
        """Return an estimate of the log-probability of 8-bit images in nats, float64 (B,), by the probability-flow ODE.

        The images are dequantised with uniform noise, and the divergence of the ODE is estimated (Hutchinson).

        Args:
            images: (B, C, H, W) of 256 levels in [-1, 1].
            labels: the class of each image, for models with classes; without a class by default.
            prompts: the text of each image, for models with prompts; none by default.
            seeds: of dequantisation and probes, one per image; 0 for all by default.
            steps: of Heun's method.
            probes: random signs by which the divergence is estimated; 0 computes it exactly, which takes C H W backward
                passes for each of the 2 evaluations a step.

        Raises:
            UserError: the model was trained for pairs, never without what is not given, or an option is out of range.
        """
        self._check_generates()
        if self.first_stage is not None:
            raise UserError("A model of latents has no likelihood of images.", "Use one that works on pixels.")
        if probes < 0:
            raise UserError(f"probes is {probes}.", "Give 0 or more.")
        if labels is None and prompts is None and self.condition_name != "none" and not self.condition_dropout:
            raise UserError(
                f"This diffusion model was never trained without {self.condition_name}.", "Give them for each image."
            )
        seeds = [0] * len(images) if seeds is None else seeds
        values = dequantised(images, seeds).to(self.device)
        signs = keyed_probes(seeds, self.spec.shape, probes)
        with self.inference():
            asked = self._asked(seeds, labels, prompts, unless_given="none")
            density = log_likelihood(self.process, self._denoiser(asked), values, steps, signs)
        return log_probability(density, images[0].numel())
