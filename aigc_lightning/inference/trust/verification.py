"""What pictures reveal about their origin: a plain record, a signed manifest, and what neither can tell."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.errors import UserError
from aigc_lightning.inference.trust.manifest import media_type
from aigc_lightning.inference.trust.signer import context
from aigc_lightning.inference.trust.text_record import text_record
from aigc_lightning.inference.trust.watermark import Watermark

#: trusted: intact and signed by somebody whose root is trusted; valid: intact, but by whom is unproven; broken: changed
#: since, or signed incorrectly; none: no manifest; unchecked: c2pa is not installed.
State = Literal["trusted", "valid", "broken", "none", "unchecked"]
_STATES: dict[str | None, State] = {"Trusted": "trusted", "Valid": "valid"}
_MOST_ACTIONS = 20


@dataclass(frozen=True)
class Manifest:
    """A C2PA manifest; its texts are those of its author.

    Args:
        state: what the signature proves.
        signer: organization and name in the certificate.
        program: what wrote the manifest.
        actions: what was done to the picture: action, source type, description and parameters of each.
        reasons: what is wrong, if it is broken.
    """

    state: State
    signer: str = ""
    program: str = ""
    actions: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Origin:
    """What a file reveals about its origin.

    Args:
        kind: media type; None for files that hold neither records nor manifests.
        record: what this package wrote beside the pixels; None if there is nothing.
        manifest: the signed manifest.
        unread: why the record could not be read.
        watermark: what was read from the pixels; None if nobody looked.
    """

    kind: str | None
    record: dict[str, Any] | None
    manifest: Manifest
    unread: str = ""
    watermark: Watermark | None = None

    @property
    def differs(self) -> bool:
        """Whether the record contradicts the signed manifest, which repeats it."""
        told = [action["parameters"] for action in self.manifest.actions if "generated" in action["parameters"]]
        if not self.record or not told or self.manifest.state == "broken":
            return False
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.record.items()}
        return bool(told[-1] != texts)


class Verifier:
    """Finds out what files reveal about their origin, without a network.

    Args:
        roots: PEM files with certificates to trust.

    Raises:
        UserError: a file of certificates cannot be read, or c2pa is needed for them and is not installed.
    """

    def __init__(self, roots: Sequence[Path] = ()) -> None:
        self.has_c2pa = importlib.util.find_spec("c2pa") is not None
        if roots and not self.has_c2pa:
            what = "Trusting certificates needs the package c2pa-python, which is not installed."
            raise UserError(what, "Install it with: pip install 'aigc-lightning[c2pa]'")
        self._context = context(b"\n".join(map(_certificates, roots))) if self.has_c2pa else None

    def check(self, path: Path) -> Origin:
        """Return what a file reveals.

        Raises:
            OSError: it cannot be read.
        """
        with open_regular(path) as file:
            kind = media_type(file.read(16))
        record, unread = None, ""
        try:
            record = text_record(path, kind)
        except ModuleNotFoundError:
            unread = "reading the comment of an MP4 needs: pip install 'aigc-lightning[video]'"
        return Origin(kind, record, self._manifest(path, kind), unread)

    def _manifest(self, path: Path, kind: str | None) -> Manifest:
        if not self.has_c2pa:
            return Manifest("unchecked")
        if kind is None:
            return Manifest("none")
        import c2pa

        try:
            with open_regular(path) as file:
                reader = c2pa.Reader.try_create(kind, file, context=self._context)
                if reader is None:
                    return Manifest("none")
                with reader:
                    state = _STATES.get(reader.get_validation_state(), "broken")
                    return _described(state, reader.get_active_manifest() or {}, reader.get_validation_results() or {})
        except c2pa.C2paError as error:  # its structure cannot be read
            return Manifest("broken", reasons=[str(error)])


def _described(state: State, found: Mapping[str, Any], results: Mapping[str, Any]) -> Manifest:
    signature = found.get("signature_info") or {}
    names = dict.fromkeys(filter(None, (signature.get("common_name"), signature.get("issuer"))))
    program = (found.get("claim_generator_info") or [{}])[0]
    failures = (results.get("activeManifest") or {}).get("failure") or []
    # That a signer is unknown is no defect, and `state` says it.
    codes = dict.fromkeys(str(failure.get("code")) for failure in failures)
    reasons = [code for code in codes if code != "signingCredential.untrusted"]
    return Manifest(
        state,
        ", ".join(map(str, names)),
        " ".join(str(program.get(key)) for key in ("name", "version") if program.get(key)),
        _actions(found),
        reasons if state == "broken" else [],
    )


def _actions(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the author says was done to the picture."""
    actions = []
    for assertion in found.get("assertions") or []:
        if str(assertion.get("label")).startswith("c2pa.actions"):
            for action in (assertion.get("data") or {}).get("actions") or []:
                parameters = action.get("parameters") or {}
                actions.append(
                    {
                        "action": str(action.get("action")),
                        "source_type": str(action.get("digitalSourceType") or ""),
                        "description": str(action.get("description") or ""),
                        "parameters": {name: value for name, value in parameters.items() if isinstance(value, str)},
                    }
                )
    return actions[:_MOST_ACTIONS]


def _certificates(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}.", "Check --trust."
        ) from error
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise UserError(
            f"{path} holds no certificates in PEM.", "Give the root of the signer, such as root.pem."
        ) from error
    return content
