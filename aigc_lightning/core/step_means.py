"""Per-step scalars, such as losses, kept on their device until their means are read."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.records import checked_state
from aigc_lightning.core.run.collectives import everyones, joint_means

#: Number of values per name that are stored separately before they are merged.
_MOST_KEPT = 1000
_KIND = [{str: {"values": Tensor, "weights": [(int, float)]}}]


class Recorded:
    """Scalars by name, each with its weight in the mean over all processes."""

    def __init__(self) -> None:
        self.pairs: dict[str, list[tuple[Tensor, float]]] = defaultdict(list)

    def add(self, name: str, value: Tensor, weight: float) -> None:
        """Record a scalar; nothing is copied from its device."""
        pairs = self.pairs[name]
        pairs.append((value.detach(), weight))
        if len(pairs) == _MOST_KEPT:
            values, weights = zip(*pairs, strict=True)
            total = sum(weights)
            shares = torch.tensor([weight / total for weight in weights])
            pairs[:] = [(torch.stack(values).float() @ shares.to(values[0].device), total)]

    def means(self) -> dict[str, float]:
        """Return the weighted mean per name over all processes; a collective operation."""
        sums = {}
        for name, pairs in self.pairs.items():
            values = torch.stack([value for value, _ in pairs]).tolist()
            weights = [weight for _, weight in pairs]
            weighted = sum(weight * value for weight, value in zip(weights, values, strict=True))
            sums[name] = (weighted, float(sum(weights)))
        return joint_means(sums)

    def forget(self) -> None:
        """Discard all recorded values."""
        self.pairs = defaultdict(list)

    def to_state(self) -> list[dict[str, Any]]:
        """Return the recorded values of each process, for a checkpoint; a collective operation."""
        own = {
            name: {"values": torch.stack([value for value, _ in pairs]).cpu(), "weights": [w for _, w in pairs]}
            for name, pairs in self.pairs.items()
        }
        return everyones(own)

    def load_state(self, parts: Any, rank: int, world_size: int, device: torch.device) -> None:
        """Restore this process's part of a state; if the number of processes has changed, the first takes all.

        Raises:
            UserError: the state has a different structure.
        """
        parts = checked_state({"parts": parts}, {"parts": _KIND}, "unlogged losses")["parts"]
        if not parts:
            return
        same = len(parts) == world_size
        share = 1.0 if same else world_size / len(parts)  # weights are relative to one process's share of a batch
        for part in parts[rank : rank + 1] if same else parts if rank == 0 else []:
            for name, held in part.items():
                values = held["values"].to(device).flatten().unbind()
                pairs = zip(values, held["weights"], strict=False)
                self.pairs[name] += [(value, weight if same else weight * share) for value, weight in pairs]
