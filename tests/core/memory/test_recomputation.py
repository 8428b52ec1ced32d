"""Activations that are computed again: the same gradients bit for bit, in less memory."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from aigc_lightning.core.adversarial import AdversarialModel
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.memory.recomputation import outermost_blocks, recompute_activations
from aigc_lightning.core.run.silent_trainer import silent_trainer
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.errors import UserError
from aigc_lightning.testing import NoiseImages, exactness


class Block(nn.Module):
    """A residual block with dropout, and a norm of choice; counts its forward passes."""

    def __init__(self, width: int, norm: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.3), nn.Linear(4 * width, width)
        )
        self.norm = nn.Identity() if norm is None else norm(width)
        self.calls = 0

    def forward(self, features: Tensor, *, scale: float = 1.0) -> Tensor:
        self.calls += 1
        changes: Tensor = self.norm(self.layers(features)) * scale
        return features + changes


class Network(nn.Module):
    def __init__(self, norm: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(16, norm) for _ in range(3))
        self.last = nn.Linear(16, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)
        for block in self.blocks:
            features = block(features, scale=0.5)
        logits: Tensor = self.last(features)[:, 0]
        return logits


class Model(ImageModel):
    block_classes = (Block,)

    def __init__(self, spec: ImageSpec, norm: str = "none") -> None:
        super().__init__(spec)
        self.network = Network({"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}.get(norm))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.network(batch["image"]).square().mean()
        self.record("loss", loss)
        return loss * self.share

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Rivals(AdversarialModel):
    """Two networks of such blocks that play for a number each."""

    block_classes = (Block,)

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__(spec)
        self.discriminator, self.generator = Network(), Network()

    def adversarial_step(self, batch: Any) -> None:
        fake = self.generator(self.noise(len(batch["image"]), 16))[:, None].expand(-1, 16)
        self.update(
            "discriminator",
            lambda: (self.discriminator(fake.detach()) - self.discriminator(batch["image"])).mean(),
        )
        self.update("generator", lambda: -self.discriminator(fake).mean())

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(getattr(self, name).parameters(), lr=0.01) for name in self.players]


def build(engine: Engine, model: type[ImageModel], batch_size: int) -> tuple[ImageModel, NoiseImages]:
    data = NoiseImages(1, 4, 4, num_images=19, batch_size=batch_size)
    built = model(data.spec)
    built.engine = engine
    return built, data


@pytest.mark.parametrize("model", [Model, Rivals])
@pytest.mark.parametrize(
    ("options", "parts"), [({}, 1), ({"processes": 2}, 1), ({"processes": 2}, 3), ({"precision": "bf16-mixed"}, 2)]
)
def test_gradients_are_the_same_bit_for_bit(
    model: type[ImageModel], options: dict[str, Any], parts: int, tmp_path: Path
) -> None:
    kept, again = (
        exactness.train(
            partial(build, Engine(micro_batches=parts, checkpoint_activations=chosen), model),
            8,
            4,
            tmp_path / str(chosen),
            **options,
        )
        for chosen in (False, True)
    )
    assert len(kept.gradients) == 4 * (2 if model is Rivals else 1)
    for (_, first), (_, second) in zip(kept.gradients, again.gradients, strict=True):
        assert len(first) > 10 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert exactness.different_tensors(kept.saved, again.saved) == []


def kept_numbers(model: ImageModel) -> int:
    """Return how many numbers a forward pass keeps for the backward pass, parameters aside."""
    found: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            found[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network: Any = model.network
        output = network(torch.ones(8, 1, 4, 4, requires_grad=True))
    output.sum().backward()
    return sum(found.values())


def test_less_is_kept() -> None:
    model = Model(ImageSpec(1, 4, 4))
    before = kept_numbers(model)
    names = list(model.state_dict())
    recompute_activations(model, model.block_classes)
    recompute_activations(model, model.block_classes)  # once is enough
    assert kept_numbers(model) < before / 2
    assert list(model.state_dict()) == names
    calls = [block.calls for block in outermost_blocks(model, (Block,))]
    assert calls == [3, 3, 3]  # one forward pass, then one that was computed again
    with model.inference():
        model.network(torch.ones(1, 1, 4, 4))
    assert [block.calls for block in outermost_blocks(model, (Block,))] == [4, 4, 4]


def test_a_copy_computes_with_its_own_weights() -> None:
    model = Model(ImageSpec(1, 4, 4)).eval()
    recompute_activations(model, model.block_classes)
    other = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    images = torch.ones(2, 1, 4, 4)
    assert model.network(images).abs().max() == 0 and other.network(images).abs().max() > 0


def test_the_outermost_blocks() -> None:
    nested = Block(4)
    nested.layers.append(Block(4))
    assert list(outermost_blocks(nn.Sequential(nested, nn.Linear(4, 4)), (Block,))) == [nested]


def fit(model: ImageModel) -> None:
    model.engine = Engine(checkpoint_activations=True)
    silent_trainer(max_steps=1, limit_val_batches=0).fit(model, NoiseImages(1, 4, 4, num_images=8, batch_size=4))


def test_what_has_no_blocks_or_changes_in_them_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pl.seed_everything(0, verbose=False)
    fit(Model(ImageSpec(1, 4, 4), "layer"))
    with pytest.raises(UserError, match="batch norm twice"):
        fit(Model(ImageSpec(1, 4, 4), "batch"))
    spectral = Model(ImageSpec(1, 4, 4))
    block = spectral.network.blocks[0]
    assert isinstance(block, Block)
    torch.nn.utils.parametrizations.spectral_norm(block.layers[0])
    with pytest.raises(UserError, match="spectral norm twice"):
        fit(spectral)
    monkeypatch.setattr(Model, "block_classes", ())
    with pytest.raises(UserError, match="Model names no blocks"):
        fit(Model(ImageSpec(1, 4, 4)))
