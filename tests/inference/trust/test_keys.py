"""Keys with which pictures are signed."""

import os
import stat

import pytest

from aigc_lightning.errors import UserError
from aigc_lightning.inference.trust import keys as module
from aigc_lightning.inference.trust.keys import CERTIFICATES, PRIVATE_KEY, ROOT, make_keys, read_keys

pytest.importorskip("c2pa", reason="c2pa-python is not installed")
x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")


def test_the_certificate_is_signed_by_the_root_whose_key_is_gone(folder):
    make_keys(folder / "keys", "Kim")
    root = x509.load_pem_x509_certificate((folder / "keys" / ROOT).read_bytes())
    (leaf,) = x509.load_pem_x509_certificates((folder / "keys" / CERTIFICATES).read_bytes())
    leaf.verify_directly_issued_by(root)
    assert sorted(path.name for path in (folder / "keys").iterdir()) == sorted([PRIVATE_KEY, CERTIFICATES, ROOT])
    found = read_keys(folder / "keys")
    assert (found.name, found.algorithm) == ("Kim", "es256")
    assert b"PRIVATE KEY" in found.private_key and leaf.public_key() != root.public_key()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_only_the_owner_can_read_the_private_key(folder):
    old = os.umask(0)
    try:
        make_keys(folder / "keys", "Kim")
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "keys" / PRIVATE_KEY).stat().st_mode) == 0o600
    (folder / "keys" / PRIVATE_KEY).chmod(0o640)
    with pytest.raises(UserError, match="read or written by other users"):
        read_keys(folder / "keys")


def test_keys_are_never_overwritten(folder):
    make_keys(folder, "Kim")
    before = {path.name: path.read_bytes() for path in folder.glob("*.pem")}
    with pytest.raises(UserError, match="never overwritten"):
        make_keys(folder, "Ada")
    assert {path.name: path.read_bytes() for path in folder.glob("*.pem")} == before


def test_a_failure_leaves_no_half_of_the_keys(folder, monkeypatch):
    write = module._write_new

    def full(path, content, mode):
        if path.name == ROOT:
            raise OSError(28, "No space left on device", str(path))
        write(path, content, mode)

    monkeypatch.setattr(module, "_write_new", full)
    with pytest.raises(OSError, match="No space"):
        make_keys(folder / "keys", "Kim")
    assert not list((folder / "keys").iterdir())


@pytest.mark.parametrize("name", ["", "x" * 70])
def test_a_name_that_no_certificate_can_hold_is_refused(name, folder):
    with pytest.raises(UserError, match="does not fit into a certificate"):
        make_keys(folder / "keys", name)
    assert not (folder / "keys").exists()


def encrypted(folder):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = generate_private_key(SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    (folder / PRIVATE_KEY).write_bytes(pem)


def of_another(folder):
    make_keys(folder / "other", "Ada")
    (folder / PRIVATE_KEY).write_bytes((folder / "other" / PRIVATE_KEY).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (encrypted, "is encrypted"),
        (of_another, "is not the key of the first certificate"),
        (lambda folder: (folder / PRIVATE_KEY).write_text("no key"), "holds no private key"),
        (lambda folder: (folder / CERTIFICATES).write_text("none"), "holds no certificates"),
        (lambda folder: (folder / CERTIFICATES).unlink(), "cannot be read: no such file"),
    ],
    ids=["encrypted", "of another", "no key", "no certificate", "missing"],
)
def test_keys_that_cannot_sign_are_refused_with_the_reason(spoil, message, folder):
    make_keys(folder, "Kim")
    spoil(folder)
    with pytest.raises(UserError, match=message):
        read_keys(folder)


def test_an_expired_certificate_is_refused(folder, monkeypatch):
    monkeypatch.setattr(module, "_VALID", -module._CLOCK_SKEW / 2)
    make_keys(folder, "Kim")
    with pytest.raises(UserError, match="expired on"):
        read_keys(folder)


def test_without_the_package_the_message_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'aigc-lightning\[c2pa\]'"):
        make_keys(folder / "keys", "Kim")
    assert not (folder / "keys").exists()
