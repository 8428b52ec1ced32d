"""Keys with which pictures are signed: made here, or issued to the user by a certificate authority.

A folder of keys holds `key.pem` (the private key), `certificates.pem` (the certificate of that key, then those between
it and its root) and, for keys made here, `root.pem`, which others need in order to trust the signatures.
"""

import importlib.util
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_lightning.core.io.atomic import open_regular
from aigc_lightning.errors import UserError
from aigc_lightning.shell import command

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateBuilder, Name

PRIVATE_KEY, CERTIFICATES, ROOT = "key.pem", "certificates.pem", "root.pem"
_VALID = timedelta(days=3653)  # signatures carry no trusted time, so they end with their certificate
_CLOCK_SKEW = timedelta(minutes=5)  # another machine's clock may be behind
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True)
class SigningKeys:
    """What signatures are made with.

    Args:
        private_key: unencrypted, in PEM and PKCS 8.
        certificates: in PEM, the certificate of the private key first.
        algorithm: a C2PA signing algorithm, such as "es256".
        name: common name in the certificate.
    """

    private_key: bytes
    certificates: bytes
    algorithm: str
    name: str


def require_c2pa() -> None:
    """Check that the packages for signatures are installed.

    Raises:
        UserError: they are not.
    """
    if any(importlib.util.find_spec(name) is None for name in ("c2pa", "cryptography")):
        what = "Signatures need the package c2pa-python, which is not installed."
        raise UserError(what, "Install it with: pip install 'aigc-lightning[c2pa]'")


def make_keys(folder: Path, name: str) -> None:
    """Make a private root, and a key with a certificate that the root has signed, valid for ten years.

    The root's own key is forgotten, so that nobody can issue further certificates in its name. Only the owner of the
    files can read the private key.

    Args:
        folder: where to write the three files; it is created if necessary.
        name: of the signer, which viewers show.

    Raises:
        UserError: the folder holds such files, the name does not fit into a certificate, or c2pa is not installed.
    """
    require_c2pa()
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if existing := next((path for file in (PRIVATE_KEY, CERTIFICATES, ROOT) if (path := folder / file).exists()), None):
        raise UserError(f"{existing} exists, and keys are never overwritten.", "Give another folder.")
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root_name, leaf_name = _name(f"{name} (root)"), _name(name)
    root = _root(root_name, root_key.public_key()).sign(root_key, _sha256())
    leaf = _leaf(leaf_name, key.public_key(), root).sign(root_key, _sha256())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _all_or_none() as written:
        for file, content, mode in (
            (PRIVATE_KEY, private, 0o600),
            (CERTIFICATES, leaf.public_bytes(Encoding.PEM), 0o644),
            (ROOT, root.public_bytes(Encoding.PEM), 0o644),
        ):
            _write_new(folder / file, content, mode)
            written.append(folder / file)


def read_keys(folder: Path) -> SigningKeys:
    """Return the keys in a folder.

    Raises:
        UserError: a file is missing, others can read the private key, it is encrypted or of an unknown kind, it does
            not belong to the certificate, that has expired, or c2pa is not installed.
    """
    require_c2pa()
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID

    path = folder / PRIVATE_KEY
    private, certificates = _read_private(path), _read(folder / CERTIFICATES)
    key = _private_key(private, path)
    try:
        leaf = x509.load_pem_x509_certificates(certificates)[0]
    except ValueError as error:
        raise UserError(
            f"{folder / CERTIFICATES} holds no certificates in PEM.", "Write the signer's first."
        ) from error
    if leaf.public_key() != key.public_key():
        what = f"{path} is not the key of the first certificate in {folder / CERTIFICATES}."
        raise UserError(what, "Write the signer's certificate first, then those between it and its root.")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        what = f"The certificate in {folder} expired on {leaf.not_valid_after_utc:%Y-%m-%d}."
        raise UserError(what, f"Make new keys: {command('aigc', 'trust', 'keys', 'new')} FOLDER")
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return SigningKeys(plain, certificates, _algorithm(key, path), str(names[0].value) if names else "")


def _name(text: str) -> "Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        # Viewers show the organization as the signer.
        kinds = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        return x509.Name([x509.NameAttribute(kind, text) for kind in kinds])
    except ValueError as error:
        raise UserError(f"The name {text!r} does not fit into a certificate.", "Give 1 to 57 characters.") from error


def _certificate(subject: "Name", issuer: "Name", public_key: Any) -> "CertificateBuilder":
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _root(name: "Name", public_key: Any) -> "CertificateBuilder":
    from cryptography import x509

    return (
        _certificate(name, name, public_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )


def _leaf(name: "Name", public_key: Any, root: "Certificate") -> "CertificateBuilder":
    """Return a certificate as C2PA 2.2, section 14.5.1, requires of signers."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer_key: Any = root.public_key()
    return (
        _certificate(name, root.subject, public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _sha256() -> Any:
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _private_key(pem: bytes, path: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(pem, password=None)
    except TypeError as error:
        hint = f"Decrypt it: openssl pkcs8 -in {path.name} -out FILE"
        raise UserError(f"{path} is encrypted, and no password can be given.", hint) from error
    except ValueError as error:
        raise UserError(
            f"{path} holds no private key in PEM.", "Give the key that belongs to the certificate."
        ) from error


def _algorithm(key: Any, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise UserError(f"{path} is of a kind that C2PA does not sign with.", "Use ECDSA (P-256), Ed25519 or RSA.")


def _read_private(path: Path) -> bytes:
    content = _read(path)
    if os.name != "nt" and path.stat().st_mode & _OTHERS:
        hint = f"Make it yours alone: {command('chmod', '600', path)}"
        raise UserError(f"{path} can be read or written by other users, so its signatures prove nothing.", hint)
    return content


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = f"Make keys once: {command('aigc', 'trust', 'keys', 'new')}, or put your own there."
        raise UserError(f"{path} cannot be read: {reason}.", hint) from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not exist, with these permissions from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


@contextmanager
def _all_or_none() -> Iterator[list[Path]]:
    """Remove the files that the block has listed as written if it fails."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
