"""Frozen networks from other runs that a model is built on: an autoencoder, a tokenizer, a text encoder, a judge.

An embedded component is needed for inference. Its weights, and the record from which it is rebuilt, are part of the
model's own checkpoints, so that these stand alone. A component that only training needs, such as the network of a
perceptual loss, is referred to: checkpoints hold its address and the hash of its weights, and a run does not resume
with other weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_lightning.core.checkpoint import build_model, load_with_record
from aigc_lightning.core.checkpointed import CheckpointedModule
from aigc_lightning.core.image_model import ImageModel
from aigc_lightning.core.io.checksums import tensors_digest
from aigc_lightning.core.io.redaction import redacted_text
from aigc_lightning.core.rebuilding import recorded_component
from aigc_lightning.core.records import check_record
from aigc_lightning.core.run.folder import find_checkpoint
from aigc_lightning.errors import UserError


@dataclass(frozen=True)
class Component:
    """A trained network.

    Args:
        model: in evaluation mode; its parameters take no gradients.
        record: from which it was rebuilt.
        sha256: of its weights, hexadecimal; the same for a checkpoint and its export.
    """

    model: ImageModel
    record: dict[str, Any]
    sha256: str


def load_component(address: str | Path) -> Component:
    """Return the network of a run folder, a checkpoint, an exported .safetensors file, or the http(s) URL of a file.

    Raises:
        UserError: the file cannot be used.
    """
    model, record = load_with_record(find_checkpoint(address))
    return _frozen(model, record)


def embedded(owner: CheckpointedModule, name: str, address: str) -> ImageModel:
    """Return a component that becomes part of a model; for the model's `__init__`.

    It is loaded from its address, or rebuilt where the model itself is rebuilt from a checkpoint, which brings the
    weights. It stays frozen and in evaluation mode whatever the model's mode.

    Args:
        owner: the model.
        name: of the model's attribute to which the component is then assigned.
        address: see `load_component`; an argument of the model.

    Raises:
        UserError: the file cannot be used.
    """
    found = recorded_component(name)
    component = load_component(address) if found is None else _rebuilt(found, name, address)
    record = {key: value for key, value in component.record.items() if key != "step"}
    owner.components[name] = {**_description(address, component.sha256), "record": record}
    return component.model


def refer(owner: CheckpointedModule, name: str, address: str, sha256: str) -> None:
    """Record a component that only training needs; for the model's `setup`, before a checkpoint is restored.

    Args:
        owner: the model.
        name: of the component, for records and messages.
        address: see `load_component`.
        sha256: of its weights.
    """
    owner.components[name] = _description(address, sha256)


def check_encoder(owner: ImageModel, name: str) -> None:
    """Check that data which `aigc data encode` wrote was encoded by a model's own component; for `on_fit_start`.

    Args:
        owner: the model, attached to a trainer.
        name: of the component; a model without it is not checked.

    Raises:
        UserError: the data was encoded by another network, or into latents where the model takes tokens, or the
            other way round.
    """
    data: Any = owner.trainer.datamodule  # type: ignore[attr-defined]  # the trainer has it
    encoder, own = getattr(data, "first_stage", None), owner.components.get(name, {}).get("sha256")
    if own is None or encoder is None:
        return
    if data.kind not in owner.encoded_keys:
        raise UserError(
            f"The data are encoded as {data.kind}, but a {type(owner).__name__} takes {owner.encoded_keys[0]}.",
            "Encode them again: aigc data encode keeps a tokenizer's tokens, and with --latents its latents.",
        )
    if encoder != own:
        raise UserError(
            f"The data was encoded by the network {encoder[:12]}, but model.{name} is {own[:12]}.",
            "Give the run that encoded it, or encode the data again: aigc data encode.",
        )


def _frozen(model: ImageModel, record: dict[str, Any], sha256: str | None = None) -> Component:
    model.eval().requires_grad_(False)
    return Component(model, record, sha256 or tensors_digest(model.state_dict()))


def _rebuilt(found: dict[str, Any], name: str, address: str) -> Component:
    """Build an untrained component; the owner's weights include its own."""
    if found["address"] != redacted_text(str(address)):
        raise UserError(f"{name} is {address}, but the checkpoint was made with {found['address']}.", "Leave it out.")
    origin = Path(f"component {name}")
    record = found.get("record")
    check_record(record, origin)
    assert isinstance(record, dict)
    return _frozen(build_model(record, origin), record, str(found.get("sha256")))


def _description(address: str, sha256: str) -> dict[str, Any]:
    return {"address": redacted_text(str(address)), "sha256": sha256}
