"""A flipped bit is named, or provably changes nothing, in every format that is ours."""

import json
import zipfile

import pytest
import torch

from aigc_lightning.core.io.checksums import (
    DamagedFileError,
    check_archive,
    read_tensors,
    sealed,
    tensors_digest,
    unsealed,
    with_checksums,
    write_tensors,
)

HELD = {"state_dict": {"a": torch.arange(5.0), "b": torch.ones(3, 3)}, "global_step": 7, "names": ["x", "y"]}
TENSORS = {"a": torch.arange(5.0), "b": torch.tensor([[1, 2], [3, 4]]), "c": torch.tensor(2.5).bfloat16()}


def equal(one, other):
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape
        return same and torch.equal(one, other)
    return one == other


def flips(data, step, bits):
    for place in range(0, len(data), step):
        for bit in bits or [place % 8]:
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            yield place, bit, bytes(flipped)


@pytest.mark.parametrize("bits", [(), pytest.param(range(8), marks=pytest.mark.slow)], ids=["one bit", "all bits"])
def test_a_flipped_bit_in_a_checkpoint_is_named_or_changes_nothing(bits, tmp_path):
    torch.save(HELD, tmp_path / "a.ckpt")
    path, named, harmless = tmp_path / "b.ckpt", 0, 0
    for place, bit, data in flips((tmp_path / "a.ckpt").read_bytes(), 1 if bits else 3, bits):
        path.write_bytes(data)
        try:
            check_archive(path, "hint")
            found = [torch.load(path, weights_only=True, mmap=mmap) for mmap in (False, True)]
        except DamagedFileError as error:
            assert "b.ckpt is damaged: " in error.what
            named += 1
        except (RuntimeError, ValueError):  # torch notices what Python overlooks
            named += 1
        else:
            assert equal(found[0], HELD) and equal(found[1], HELD), (place, bit)
            harmless += 1
    assert named > harmless > 0  # padding and times


def test_all_of_the_weights_are_covered(tmp_path):
    torch.save({"w": torch.arange(5000.0)}, tmp_path / "a.ckpt")
    data = bytearray((tmp_path / "a.ckpt").read_bytes())
    start = data.index(torch.arange(9.0).numpy().tobytes())
    for place in range(start, start + 20_000, 997):
        flipped = bytearray(data)
        flipped[place] ^= 16
        (tmp_path / "b.ckpt").write_bytes(flipped)
        with pytest.raises(DamagedFileError, match=r"Bad CRC-32 for file '.*data/0'"):
            check_archive(tmp_path / "b.ckpt", "")


def archive(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in entries:
            file.writestr(name, data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    packed = {"compression": zipfile.ZIP_DEFLATED}
    for entries, options in [([("x/data.pkl", bytes(10_000_000))], packed), ([("x/a", b"1"), ("x/a", b"2")], {})]:
        archive(tmp_path / "a.ckpt", entries, **options)
        with pytest.raises(DamagedFileError, match="not those that torch"):
            check_archive(tmp_path / "a.ckpt", "")
    folder = zipfile.ZipInfo("x/data/0")
    folder.external_attr = 0x10
    archive(tmp_path / "a.ckpt", [(folder, b"data")])
    with pytest.raises(DamagedFileError, match="not those that torch"):
        check_archive(tmp_path / "a.ckpt", "")


def test_checksums_are_written_where_a_program_has_switched_them_off(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(HELD, tmp_path / "without.ckpt")
        with with_checksums():
            torch.save(HELD, tmp_path / "with.ckpt")
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    check_archive(tmp_path / "with.ckpt", "")
    with pytest.raises(DamagedFileError, match="CRC"):
        check_archive(tmp_path / "without.ckpt", "")


def test_tensors_and_texts_come_back(tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, {"record": "é"})
    tensors, metadata = read_tensors(tmp_path / "a.safetensors", "")
    assert equal(tensors, TENSORS) and metadata == {"record": "é"}


@pytest.mark.parametrize("bits", [(), pytest.param(range(8), marks=pytest.mark.slow)], ids=["one bit", "all bits"])
def test_a_flipped_bit_in_a_file_of_tensors_is_named_or_changes_nothing(bits, tmp_path):
    write_tensors(tmp_path / "a.safetensors", TENSORS, {"record": '{"classes": ["cat", "dog"]}'})
    path, named = tmp_path / "b.safetensors", 0
    data = (tmp_path / "a.safetensors").read_bytes()
    for place, bit, flipped in flips(data, 1, bits):
        path.write_bytes(flipped)
        try:
            tensors, metadata = read_tensors(path, "")
        except DamagedFileError as error:
            assert "b.safetensors is damaged: " in error.what
            named += 1
        else:
            # Only the name of the digest is not covered by it: without one, a file is read as before there were any.
            assert equal(tensors, TENSORS) and metadata.get("record") in (None, '{"classes": ["cat", "dog"]}')
            assert b'"sha256":' not in flipped, (place, bit)
    assert named > 0.9 * len(data)


def test_a_file_without_a_digest_is_read_with_a_word(tmp_path, caplog):
    from safetensors.torch import save_file

    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"record": "x"})
    tensors, metadata = read_tensors(tmp_path / "a.safetensors", "")
    assert equal(tensors, TENSORS) and metadata == {"record": "x"}
    assert "has no checksum" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, (2**62).to_bytes(8, "little"), b"[" * 5000])
def test_other_bytes_are_no_file_of_tensors(data, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(DamagedFileError):
        read_tensors(tmp_path / "a.safetensors", "")
    nested = b'{"a":' * 5000 + b"1" + b"}" * 5000
    (tmp_path / "a.safetensors").write_bytes(len(nested).to_bytes(8, "little") + nested)
    with pytest.raises(DamagedFileError):
        read_tensors(tmp_path / "a.safetensors", "")


def test_the_digest_of_tensors_depends_on_names_kinds_and_numbers_alone():
    digest = tensors_digest(TENSORS)
    assert digest == tensors_digest(dict(reversed(TENSORS.items())))
    assert digest == tensors_digest({**TENSORS, "b": TENSORS["b"].t().contiguous().t()})
    others = [{"b": TENSORS["b"].t()}, {"b": TENSORS["b"].view(4)}, {"a": TENSORS["a"].double()}, {"d": torch.ones(1)}]
    assert digest not in [tensors_digest({**TENSORS, **other}) for other in others]


def test_a_changed_record_is_noticed(caplog):
    record = {"names": ["a", "b"], "count": 3}
    text = json.dumps(sealed(record))
    assert unsealed(json.loads(text), "x.json", "") == record
    for old, new in (('"a"', '"c"'), ("3", "4"), ("count", "counts")):
        with pytest.raises(DamagedFileError, match=r"x\.json is damaged"):
            unsealed(json.loads(text.replace(old, new, 1)), "x.json", "")
    assert unsealed(record, "x.json", "") == record and "has no checksum" in caplog.text
