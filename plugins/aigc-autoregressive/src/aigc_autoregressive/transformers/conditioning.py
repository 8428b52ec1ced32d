"""What a picture is to show, as tokens that stand before those of the picture.

Guidance needs the same model with and without condition: what is absent is replaced by a learnt token, in training for
a share of the samples (Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, https://arxiv.org/abs/2207.12598).
Shapes: B batch, T context tokens, W width of the transformer.
"""

from dataclasses import dataclass

import torch
from aigc_lightning.errors import UserError
from torch import Tensor, nn
from torch.nn.functional import pad


@dataclass(frozen=True)
class Condition:
    """What the pictures of a batch are to show. Absent parts leave it open.

    Args:
        labels: classes, int64 (B,).
        context: tokens of a text encoder or the like, (B, T, features), T at most what the model was made for.
        present: which of the context's tokens there are, bool (B, T); None for all.
        dropped: samples that are without condition all the same, bool (B,).
        summary: of the context, added to each of the image's tokens, (B, W).
    """

    labels: Tensor | None = None
    context: Tensor | None = None
    present: Tensor | None = None
    dropped: Tensor | None = None
    summary: Tensor | None = None

    def guided(self, batch: int, device: torch.device) -> "Condition":
        """Return a condition of twice the batch, the second half being without condition."""

        def twice(part: Tensor | None) -> Tensor | None:
            return None if part is None else torch.cat([part, part])

        dropped = torch.zeros(batch, dtype=torch.bool, device=device) if self.dropped is None else self.dropped
        dropped = torch.cat([dropped, torch.ones_like(dropped)])
        return Condition(twice(self.labels), twice(self.context), twice(self.present), dropped, twice(self.summary))

    def with_summary(self, tokens: Tensor) -> Tensor:
        """Return an image's tokens (B, N, W) with the summary added to each, unless it is absent or dropped."""
        summary = self.kept_summary
        return tokens if summary is None else tokens + summary

    @property
    def kept_summary(self) -> Tensor | None:
        """What is added to each token, (B, 1, W): the summary, or 0 for samples without condition."""
        if self.summary is None or self.dropped is None:
            return None if self.summary is None else self.summary.unsqueeze(1)
        return self.summary.masked_fill(self.dropped.unsqueeze(1), 0).unsqueeze(1)


#: Nothing in particular.
OPEN = Condition()


class Prefix(nn.Module):
    """The context's tokens, then one for the class. Without classes the latter says where pictures begin.

    Args:
        width: W.
        num_classes: 0 without classes.
        context_width: features of context tokens.
        context_length: T, 0 without context; shorter contexts are filled up with tokens that none attends to, so that a
            picture does not depend on the other prompts of its batch.
    """

    def __init__(self, width: int, num_classes: int = 0, context_width: int = 0, context_length: int = 0) -> None:
        super().__init__()
        self.classes = ClassToken(width, num_classes)
        self.context = ContextTokens(width, context_width, context_length) if context_length else None
        self.length = 1 + context_length

    def forward(self, condition: Condition, batch: int) -> tuple[Tensor, Tensor | None]:
        """Return the tokens, (B, T + 1, W), and which of them there are, bool (B, T + 1); None for all."""
        check_parts(condition, classes=self.classes.num_classes > 0, context=self.context is not None)
        last = condition.with_summary(self.classes(condition, batch).unsqueeze(1))
        if self.context is None:
            return last, None
        tokens, present = self.context(condition, batch)
        return torch.cat([tokens, last], dim=1), extended(present, 1)


class ClassToken(nn.Module):
    """An embedding for each class, and one more where the class is open."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.table = nn.Embedding(num_classes + 1, width)

    def forward(self, condition: Condition, batch: int) -> Tensor:
        """Return (B, W)."""
        embedded: Tensor = self.table(labels_or_open(condition, batch, self.num_classes, self.table.weight.device))
        return embedded


class ContextTokens(nn.Module):
    """A linear map of context tokens, filled up to T, and a learnt token where there is no context."""

    def __init__(self, width: int, context_width: int, context_length: int) -> None:
        super().__init__()
        self.length = context_length
        self.projection = nn.Linear(context_width, width)
        self.absent = nn.Parameter(0.02 * torch.randn(1, width))

    def forward(self, condition: Condition, batch: int) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, W), and which of them there are, bool (B, T), at least one of each sample.

        Raises:
            UserError: the context is longer than T.
        """
        context, only_first = condition.context, torch.arange(self.length, device=self.absent.device) == 0
        if context is None:
            return self.absent.expand(batch, self.length, -1), only_first.expand(batch, -1)
        filled = self.length - context.shape[1]
        if filled < 0:
            raise UserError(
                f"The context has {context.shape[1]} tokens and the model takes {self.length}.", "Shorten the prompt."
            )
        present = condition.present
        if present is None:
            present = context.new_ones(batch, context.shape[1], dtype=torch.bool)
        tokens, present = pad(self.projection(context), (0, 0, 0, filled)), pad(present, (0, filled))
        empty = ~present.any(1, keepdim=True)
        absent = empty if condition.dropped is None else empty | condition.dropped[:, None]
        # Not a choice between Booleans, of which onnxruntime knows none.
        present = (absent & only_first) | (~absent & present)
        return torch.where(absent.unsqueeze(-1), self.absent, tokens), present


def extended(present: Tensor, count: int) -> Tensor:
    """Return which tokens there are, bool (B, T + count), when present ones follow those of `present` (B, T)."""
    return pad(present, (0, count), value=True)


def check_parts(condition: Condition, *, classes: bool, context: bool) -> None:
    """Refuse what a model would have to pass over in silence.

    Raises:
        UserError: labels for a model without classes, or a context for a model that takes none.
    """
    if condition.labels is not None and not classes:
        raise UserError("The model was made without classes and cannot draw one.", "Leave the class out.")
    if not context and (condition.context is not None or condition.summary is not None):
        raise UserError("The model was made without context and cannot follow a prompt.", "Leave the prompt out.")


def labels_or_open(condition: Condition, batch: int, open_label: int, device: torch.device) -> Tensor:
    """Return the labels, int64 (B,), with `open_label` for samples without condition."""
    if condition.labels is None:
        return torch.full((batch,), open_label, device=device)
    if condition.dropped is None:
        return condition.labels
    return condition.labels.masked_fill(condition.dropped, open_label)
