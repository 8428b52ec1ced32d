"""Feature banks: the moments of the features of a set of images, and the features themselves if they are needed.

A bank is filled in one pass. Samples are identified by index: duplicates, as from padding samplers, count once, and the
order in which samples arrive does not matter.
Shapes: N samples, D features, K classes.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from aigc_lightning.core.run.collectives import everyones
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.extractor import Extractor
from aigc_lightning.metrics.moments import Moments

#: A batch of input: uint8 images (B, C, H, W), sample numbers (B,), and labels (B,) or None.
Labelled = tuple[Tensor, Tensor, Tensor | None]
#: Images that go through an extractor together.
BLOCK = 64
_PENDING = 1024  # vectors that wait for a matrix product: few large ones are faster than many small ones
_FIELDS = ("index", "features", "logits", "labels")


class FeatureBank:
    """Features of indexed samples.

    Args:
        num_features: D.
        keep_features: keep every vector; otherwise only their moments, whose size is constant.
    """

    def __init__(self, num_features: int, *, keep_features: bool = True) -> None:
        self.num_features, self.keep_features = num_features, keep_features
        self._seen: set[int] = set()
        self._rows: dict[str, list[Tensor]] = {name: [] for name in _FIELDS}
        self._in_order = True  # whether each list of rows is one tensor, by sample number
        self._moments = Moments.empty(num_features)
        self._pending: list[Tensor] = []  # features that are not kept and not in the moments yet

    def __len__(self) -> int:
        """Return N."""
        return len(self._seen)

    @property
    def index(self) -> Tensor:
        """Sample numbers, int64 (N,), in order."""
        found = self._joined("index")
        return torch.empty(0, dtype=torch.int64) if found is None else found

    @property
    def features(self) -> Tensor | None:
        """Features, float32 (N, D), in the order of `index`; None where they are not kept."""
        found = self._joined("features")
        return torch.empty(0, self.num_features) if found is None and self.keep_features else found

    @property
    def logits(self) -> Tensor | None:
        """Logits, float32 (N, K), in the order of `index`; None where there are none."""
        return self._joined("logits")

    @property
    def labels(self) -> Tensor | None:
        """Labels, int64 (N,), in the order of `index`; None where there are none."""
        return self._joined("labels")

    @property
    def moments(self) -> Moments:
        """Moments of the features; where these are kept they are added in order, so no digit depends on batches."""
        features = self.features
        if features is not None and self._moments.count != len(self):
            self._moments = Moments.of(features)
        self._settle()
        return self._moments

    def add(self, features: Tensor, index: Tensor, logits: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Add samples; those whose indices are already present are dropped.

        Args:
            features: (B, D).
            index: sample numbers, (B,).
            logits: (B, K); for all samples of a bank or for none.
            labels: (B,); for all samples of a bank or for none.
        """
        assert features.shape == (len(index), self.num_features)
        new = []
        for row, number in enumerate(index.tolist()):
            if number not in self._seen:
                self._seen.add(number)
                new.append(row)
        if not new:
            return
        self._in_order = False
        for name, value in zip(_FIELDS, (index, features, logits, labels), strict=True):
            if value is not None:
                waits = name == "features" and not self.keep_features
                (self._pending if waits else self._rows[name]).append(value.detach().cpu()[new])
        if sum(map(len, self._pending)) >= _PENDING:
            self._settle()

    def merge(self, other: "FeatureBank") -> "FeatureBank":
        """Return a bank of the samples of both.

        Raises:
            UserError: a sample is in both and its features are not kept, so that it cannot be taken out again.
        """
        assert (self.num_features, self.keep_features) == (other.num_features, other.keep_features)
        merged = FeatureBank(self.num_features, keep_features=self.keep_features)
        if self.keep_features:
            for bank in (self, other):
                features = bank.features
                assert features is not None
                merged.add(features, bank.index, bank.logits, bank.labels)
            return merged
        twice = self._seen & other._seen
        if twice:
            raise UserError(
                f"{len(twice)} samples, such as number {min(twice)}, were processed by two processes.",
                "Give each process different samples, or keep the features, so that duplicates can be dropped.",
            )
        merged._seen = self._seen | other._seen
        merged._rows = {name: rows + other._rows[name] for name, rows in self._rows.items()}
        merged._in_order = False
        merged._moments = self.moments.merge(other.moments)
        return merged

    def gathered(self) -> "FeatureBank":
        """Return the bank of all processes' samples, the same in each; every process must call this."""
        merged = FeatureBank(self.num_features, keep_features=self.keep_features)
        for tensors in everyones(self.to_tensors()):
            merged = merged.merge(FeatureBank.from_tensors(tensors, self.num_features))
        return merged

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all that the bank holds, for files and for other processes."""
        held = {"index": self.index, "features": self.features, "logits": self.logits, "labels": self.labels}
        if not self.keep_features:
            moments = self.moments
            held |= {"count": torch.tensor(moments.count), "mean": moments.mean, "scatter": moments.scatter}
        return {name: value.contiguous() for name, value in held.items() if value is not None}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], num_features: int) -> "FeatureBank":
        """Rebuild what `to_tensors` gave."""
        bank = cls(num_features, keep_features="features" in tensors)
        bank._seen = set(tensors["index"].tolist())
        bank._rows = {name: [tensors[name]] if name in tensors else [] for name in _FIELDS}
        if not bank.keep_features:
            bank._moments = Moments(int(tensors["count"]), tensors["mean"], tensors["scatter"])
        return bank

    def _settle(self) -> None:
        if self._pending:
            self._moments, self._pending = self._moments.add(torch.cat(self._pending)), []

    def _joined(self, name: str) -> Tensor | None:
        """Return rows in the order of the sample numbers."""
        if not self._in_order:
            order = torch.cat(self._rows["index"]).argsort()
            for key, parts in self._rows.items():
                assert not parts or sum(map(len, parts)) == len(order), f"only some samples have {key}"
                self._rows[key] = [torch.cat(parts)[order]] if parts else []
            self._in_order = True
        return self._rows[name][0] if self._rows[name] else None


def collect(
    extractor: Extractor,
    batches: Iterable[Labelled],
    *,
    keep_features: bool = True,
    with_logits: bool = True,
    progress: Callable[[int], None] | None = None,
    block: int = BLOCK,
) -> FeatureBank:
    """Compute the features of images in one pass.

    Images go through the network in blocks of a fixed size, whatever the batches: the rounding of a matrix product can
    depend on its number of rows, and features must not depend on how samples are divided among processes.

    Args:
        extractor: the feature extractor.
        batches: uint8 images with their indices and optionally labels; sizes may differ from batch to batch.
        keep_features: see `FeatureBank`.
        with_logits: also keep logits, if the extractor has them.
        progress: called with the number of images processed since the last call.
        block: images that go through the network together; fewer ones are padded, so less is faster for few images.

    Returns:
        The bank of this process; see `FeatureBank.gathered`.
    """
    bank = FeatureBank(extractor.num_features, keep_features=keep_features)
    prepared = ((extractor.prepare(images), index, labels) for images, index, labels in batches)
    for pixels, index, labels in _blocks(prepared, block):
        count = len(pixels)
        padding = pixels[:1].expand(block - count, -1, -1, -1)
        features, logits = extractor.describe(torch.cat([pixels, padding]), with_logits=with_logits)
        bank.add(features[:count], index, None if logits is None else logits[:count], labels)
        if progress is not None:
            progress(count)
    return bank


def _blocks(batches: Iterable[Labelled], block: int) -> Iterator[Labelled]:
    """Yield blocks of samples, the last one perhaps smaller."""
    waiting: list[Labelled] = []
    for batch in batches:
        waiting.append(batch)
        if sum(len(index) for _, index, _ in waiting) >= block:
            *full, rest = _cut(waiting, block)
            yield from full
            waiting = [rest]
    if waiting:
        yield from _cut(waiting, block)


def _cut(batches: list[Labelled], block: int) -> list[Labelled]:
    """Return the samples of batches in blocks."""
    pixels = torch.cat([part for part, _, _ in batches])
    index = torch.cat([part for _, part, _ in batches])
    known = [labels for _, _, labels in batches if labels is not None]
    assert len(known) in (0, len(batches)), "only some batches have labels"
    labels = torch.cat(known) if known else None
    starts = range(0, len(index), block)
    cuts = [slice(start, start + block) for start in starts]
    return [(pixels[cut], index[cut], None if labels is None else labels[cut]) for cut in cuts]
