"""Networks by name, with the encoder of their texts.

Shapes: B batch, C channels, H and W height and width in pixels, K noise levels of a sample.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args

import torch
from aigc_lightning.errors import UserError, did_you_mean
from aigc_lightning.networks.byte_encoder import ByteEncoder
from torch import Tensor, nn

from aigc_diffusion.checks import check_choice
from aigc_diffusion.networks.conditions import Conditions
from aigc_diffusion.networks.dit import DiT
from aigc_diffusion.networks.unet import UNet

Module = TypeVar("Module", bound=nn.Module)
NetworkName = Literal["unet", "dit"]
#: Options of networks that train in minutes on two processor cores; the classes' own defaults are the papers'.
SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "width": 32,
        "multipliers": [1, 2],
        "blocks": 1,
        "attention_levels": [1],
        "style": "light",
        "patch_size": 2,
    },
    "dit": {"patch_size": 4, "depth": 6, "width": 128, "heads": 4, "positions": "rotary", "qk_norm": True},
}
_CLASSES: dict[str, type[nn.Module]] = {"unet": UNet, "dit": DiT}
#: Arguments that the data and the process decide.
_DECIDED = ("channels", "num_classes", "text_size", "extra_channels", "augmentation_size", "level_size")


class ConditionalNetwork(nn.Module):
    """A network and the encoder of its texts, which are trained and averaged together.

    Args:
        body: maps states, noise levels and conditions to predictions.
        texts: encodes prompts; None for a network that takes none.
        num_classes: classes that labels may name; 0 for a network that takes none.
    """

    def __init__(self, body: nn.Module, texts: ByteEncoder | None, num_classes: int) -> None:
        super().__init__()
        self.body, self.texts, self.num_classes = body, texts, num_classes

    def forward(
        self,
        state: Tensor,
        level: Tensor,
        labels: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
        pooled_text: Tensor | None = None,
        image: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction (B, C, H, W) for states (B, C, H, W), noise levels (B, K) and `Conditions`.

        These are single tensors here, so that the network can be exported and compiled.
        """
        prediction: Tensor = self.body(
            state, level, Conditions(labels, text, text_mask, pooled_text, image, augmentation)
        )
        return prediction

    def predict(self, state: Tensor, level: Tensor, conditions: Conditions) -> Tensor:
        """Return the prediction (B, C, H, W) for conditions as a whole."""
        prediction: Tensor = self(state, level, **vars(conditions))
        return prediction

    def conditions(
        self,
        labels: Tensor | None,
        prompts: Sequence[str] | None,
        keep: Tensor | None = None,
        image: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> Conditions:
        """Return the conditions of a batch as the network takes them.

        Args:
            labels: (B,) int64, for a network with classes.
            prompts: B texts, for a network with texts; "" stands for no text.
            keep: bool (B,), false where class and text are left out; None keeps all.
            image: (B, C', H, W), never left out.
            augmentation: (B, A).
        """
        if self.num_classes and labels is not None and keep is not None:
            labels = torch.where(keep, labels, self.num_classes)
        if self.texts is None or prompts is None:
            return Conditions(labels=labels if self.num_classes else None, image=image, augmentation=augmentation)
        kept = [True] * len(prompts) if keep is None else keep.tolist()
        tokens = self.texts.tokenize([text if kept_ else "" for text, kept_ in zip(prompts, kept, strict=True)])
        found = self.texts(tokens.to(self.texts.positions.device))
        return Conditions(
            labels=labels if self.num_classes else None,
            text=found.tokens,
            text_mask=found.mask,
            pooled_text=found.pooled,
            image=image,
            augmentation=augmentation,
        )


def make_text_encoder(options: Mapping[str, int]) -> ByteEncoder:
    """Return the encoder of prompts.

    Args:
        options: arguments of `ByteEncoder`.

    Raises:
        UserError: an option that is unknown, or options that do not go together.
    """
    return _built(ByteEncoder, options, "text encoder", "text_options")


def make_network(
    name: NetworkName,
    options: Mapping[str, Any],
    texts: ByteEncoder | None,
    *,
    num_classes: int = 0,
    **decided: int,
) -> ConditionalNetwork:
    """Return a network by its name.

    Args:
        name: "unet" or "dit".
        options: arguments of `UNet` or `DiT`, in addition to those of `SMALL`.
        texts: encodes prompts, or None.
        num_classes: classes that labels may name; 0 for none.
        **decided: arguments that data and process decide, such as `channels`.

    Raises:
        UserError: a name or an option that is unknown, or options that do not go together.
    """
    check_choice("The network", name, get_args(NetworkName))
    decided.update(text_size=texts.size if texts else 0, num_classes=num_classes)
    body = _built(_CLASSES[name], options, f"network {name!r}", "network_options", {**SMALL[name], **decided})
    return ConditionalNetwork(body, texts, num_classes)


def _built(
    make: type[Module],
    options: Mapping[str, Any],
    what: str,
    argument: str,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> Module:
    """Return a module with the options of a user, which replace those given unless data and process decide them."""
    known = [name for name in signature(make).parameters if name not in _DECIDED]
    for option in options:
        if option not in known:
            raise UserError(f"The {what} has no option {option!r}.", did_you_mean(option, known))
    try:
        return make(**{**given, **options})
    except (TypeError, ValueError, RuntimeError) as error:  # a value of another type, or out of range
        raise UserError(
            f"The {what} cannot be built with {dict(options)}: {str(error).splitlines()[0]}",
            f"`aigc plugins show diffusion` describes model.{argument}; it takes {', '.join(known)}.",
        ) from error
