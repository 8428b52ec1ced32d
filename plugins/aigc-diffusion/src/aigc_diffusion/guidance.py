"""What is asked of a model, and how strongly samples are led to it.

Papers: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, https://arxiv.org/abs/2207.12598; Kynkäänniemi et
al., Applying Guidance in a Limited Interval, NeurIPS 2024, https://arxiv.org/abs/2404.07724; Karras et al., Guiding a
Diffusion Model with a Bad Version of Itself (autoguidance), NeurIPS 2024, https://arxiv.org/abs/2406.02507
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from aigc_lightning.core.component import Component, load_component
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_diffusion.processes import Process

if TYPE_CHECKING:
    from aigc_diffusion.denoising_model import DenoisingModel


@dataclass(frozen=True)
class Asked:
    """Conditions of a batch before a network has seen them.

    Args:
        labels: classes; the number of classes itself stands for none. Empty where there are none.
        prompts: texts; "" stands for none.
        source: (B, C, H, W) what is translated or restored, or None.
    """

    labels: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()
    source: Tensor | None = None

    def without_conditions(self, num_classes: int) -> "Asked":
        """Return the same without classes and texts."""
        return replace(self, labels=(num_classes,) * len(self.labels), prompts=("",) * len(self.prompts))


@dataclass(frozen=True)
class Guidance:
    """How strongly, when, and away from what samples are led.

    Args:
        scale: 1 is no guidance.
        start: share of the sampler's time after which there is guidance.
        end: share of the sampler's time after which there is none any more.
        guide: run, checkpoint or address of the model for autoguidance; "" for the model itself without conditions.

    Raises:
        UserError: an option that would not act, or an interval that is none.
    """

    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    guide: str = ""

    def __post_init__(self) -> None:
        given = [name for name, value in (("guidance_start", self.start), ("guidance_end", self.end - 1)) if value]
        given += ["guide"] if self.guide else []
        if self.scale == 1 and given:
            raise UserError(f"{given[0]} is given without guidance.", "Add guidance, such as 2, or leave it out.")
        if not 0 <= self.start < self.end <= 1:
            raise UserError(
                f"guidance_start is {self.start} and guidance_end {self.end}.",
                "Give shares of the sampler's time in order.",
            )

    def interval(self, process: Process) -> tuple[float, float]:
        """Return the times of a process between which there is guidance."""
        shares = torch.tensor([self.end, self.start], dtype=torch.float64)
        low, high = process.spread(shares).tolist()
        return (0.0 if self.end == 1 else low, high)


NO_GUIDANCE = Guidance()


def check_guidance(is_trained: bool, is_given: bool, scale: float) -> None:
    """Refuse guidance by conditions where it could not act.

    Args:
        is_trained: whether the model knows both images with and without conditions.
        is_given: whether there is a condition now.
        scale: of the guidance.

    Raises:
        UserError: it could not.
    """
    if not is_trained:
        raise UserError(
            "This diffusion model has no guidance: it was trained without classes and prompts, or never without them.",
            "Leave guidance out, name a guide, or train with model.conditions and model.condition_dropout.",
        )
    if not is_given:
        raise UserError(f"guidance is {scale}, but there is no prompt for it to strengthen.", "Leave it out.")


def guiding_model(model: "DenoisingModel", address: str) -> "DenoisingModel":
    """Return the model for autoguidance, on the device of the model that it guides.

    Args:
        model: that makes the images.
        address: of the guide.

    Raises:
        UserError: the guide is no diffusion model, or one whose predictions mean something else.
    """
    guide = guide_component(address).model
    if not isinstance(guide, type(model)):
        raise UserError(f"The guide {address} is a {type(guide).__name__}.", "Give an earlier or smaller run.")
    ours, theirs = (_meaning(one) for one in (model, guide))
    for name, own in ours.items():
        if theirs[name] != own:
            raise UserError(
                f"The guide's {name} is {theirs[name]}, but the model's is {own}.", "Give an earlier or smaller run."
            )
    return guide.to(model.device)


def _meaning(model: "DenoisingModel") -> dict[str, object]:
    """Return what has to be equal for the predictions of two models to be comparable."""
    process = {name: value for name, value in vars(model.process).items() if isinstance(value, str | float | int)}
    return {
        "data": model.spec,
        "conditions": model.condition_name,
        "process": (type(model.process).__name__, *sorted(process.items())),
        "first stage": model.components.get("first_stage", {}).get("sha256"),
    }


@lru_cache(maxsize=1)  # sampling asks for it with every chunk
def guide_component(address: str) -> Component:
    """Return the network of a guide's address.

    Raises:
        UserError: the file cannot be used.
    """
    return load_component(address)
