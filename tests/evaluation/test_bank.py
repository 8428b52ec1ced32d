import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aigc_lightning.core.checkpoint import save_weights
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation import bank_cache
from aigc_lightning.evaluation.bank import FeatureBank, collect
from aigc_lightning.evaluation.bank_cache import BankCache, BankKey
from aigc_lightning.evaluation.extractors import ModelExtractor
from aigc_lightning.metrics.frechet import frechet_distance


def batches(images, order, size):
    return [(images[part], part, part % 3) for part in order.split(size)]


def features(count=30, dimensions=4):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(0))


def same(a: FeatureBank, b: FeatureBank) -> bool:
    first, second = a.to_tensors(), b.to_tensors()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def present(values: torch.Tensor | None) -> torch.Tensor:
    """Return what a bank has to have."""
    assert values is not None
    return values


# ---- filling it


def test_no_digit_depends_on_batches_or_on_their_order(cnn, images):
    extractor = ModelExtractor(cnn)
    whole = collect(extractor, batches(images, torch.arange(150), 150))
    assert whole.index.tolist() == list(range(150)) and present(whole.labels).tolist() == [n % 3 for n in range(150)]
    torch.testing.assert_close(whole.features, extractor(images).features)
    for order, size in ((torch.arange(150), 7), (torch.randperm(150), 64), (torch.arange(150).flip(0), 1)):
        other = collect(extractor, batches(images, order, size))
        assert same(whole, other)
        assert torch.equal(whole.moments.scatter, other.moments.scatter)


def test_moments_alone_are_those_of_the_features(cnn, images):
    extractor = ModelExtractor(cnn)
    bank = collect(extractor, batches(images, torch.arange(150), 40), keep_features=False)
    kept = extractor(images).features.double().numpy()
    assert bank.features is None and len(bank) == 150
    np.testing.assert_allclose(bank.moments.mean, kept.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(bank.moments.covariance, np.cov(kept, rowvar=False), atol=1e-6)


def test_a_sample_that_comes_twice_counts_once():
    rows = features()
    for keep_features in (True, False):
        bank = FeatureBank(4, keep_features=keep_features)
        bank.add(rows[:20], torch.arange(20))
        bank.add(torch.cat([rows[15:], rows[28:]]), torch.tensor([*range(15, 30), 28, 29]))
        assert len(bank) == 30 and bank.moments.count == 30
        np.testing.assert_allclose(bank.moments.covariance, np.cov(rows.numpy(), rowvar=False), atol=1e-6)


def test_images_of_several_sizes_and_progress(cnn, images):
    counts: list[int] = []
    larger = torch.nn.functional.interpolate(images[:5].float(), scale_factor=2).byte()
    mixed = [(larger, torch.arange(5), None), (images[5:90], torch.arange(5, 90), None)]
    bank = collect(ModelExtractor(cnn), mixed, with_logits=False, progress=counts.append)
    assert len(bank) == sum(counts) == 90 and len(counts) == 2
    assert bank.logits is None and bank.labels is None
    torch.testing.assert_close(present(bank.features)[:5], ModelExtractor(cnn)(larger).features)


def test_no_image_at_all_is_an_empty_bank(cnn):
    bank = collect(ModelExtractor(cnn), [])
    assert len(bank) == 0 and present(bank.features).shape == (0, bank.num_features) and bank.moments.count == 0


# ---- putting banks together


@pytest.mark.parametrize("keep_features", [True, False])
def test_merged_banks_are_the_bank_of_all(keep_features):
    rows, index = features(), torch.randperm(30)
    whole, first, second = (FeatureBank(4, keep_features=keep_features) for _ in range(3))
    whole.add(rows, index, labels=index)
    first.add(rows[:13], index[:13], labels=index[:13])
    second.add(rows[13:], index[13:], labels=index[13:])
    merged = first.merge(second)
    assert torch.equal(present(merged.labels), present(whole.labels)) and torch.equal(merged.index, whole.index)
    torch.testing.assert_close(merged.moments.scatter, whole.moments.scatter, atol=1e-12, rtol=0)


def test_doubles_are_dropped_from_features_and_refused_among_moments():
    rows = features()
    for keep_features in (True, False):
        first, second = FeatureBank(4, keep_features=keep_features), FeatureBank(4, keep_features=keep_features)
        first.add(rows[:20], torch.arange(20))
        second.add(rows[19:], torch.arange(19, 30))
        if keep_features:
            assert len(first.merge(second)) == 30
        else:
            with pytest.raises(UserError, match="1 samples, such as number 19"):
                first.merge(second)


GATHER = """
import sys
import torch
import torch.distributed as dist
from aigc_lightning.core.run.processes import run_together
from aigc_lightning.evaluation.bank import FeatureBank, collect
from aigc_lightning.evaluation.extractors import find_extractor

def work(rank, folder, world_size=3):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world_size)
    images = torch.load(f"{folder}/images.pt")
    for keep in (0, 1):
        own = torch.arange(len(images))[rank::world_size - 1] if rank < world_size - 1 else torch.arange(0)
        if keep and len(own):  # as padding samplers do
            own = torch.cat([own, torch.arange(2)])
        batches = [(images[part], part, part % 3) for part in own.split(16)] if len(own) else []
        bank = collect(find_extractor(f"{folder}/cnn.safetensors"), batches, keep_features=bool(keep)).gathered()
        torch.save(bank.to_tensors(), f"{folder}/bank{keep}{rank}.pt")

if __name__ == "__main__":
    run_together(work, sys.argv[1], count=3, limit_s=120)
"""


@pytest.mark.slow
def test_three_processes_have_the_bank_of_one_though_one_has_no_sample_and_others_share_some(
    cnn, images, aigc_process, tmp_path
):
    save_weights(cnn, tmp_path / "cnn.safetensors", {})
    torch.save(images, tmp_path / "images.pt")
    (tmp_path / "gather.py").write_text(GATHER, encoding="utf-8")
    done = aigc_process(sys.executable, "gather.py", tmp_path)
    assert done.code == 0, done.err
    half = collect(ModelExtractor(cnn), batches(images // 2, torch.arange(150), 50))
    for keep in (1, 0):
        whole = collect(ModelExtractor(cnn), batches(images, torch.arange(150), 50), keep_features=bool(keep))
        for rank in range(3):
            bank = FeatureBank.from_tensors(torch.load(tmp_path / f"bank{keep}{rank}.pt"), whole.num_features)
            assert torch.equal(bank.index, whole.index) and torch.equal(present(bank.logits), present(whole.logits))
            assert not keep or same(bank, whole)
            expected = frechet_distance(whole.moments, half.moments)
            assert frechet_distance(bank.moments, half.moments) == pytest.approx(expected, abs=1e-9)


# ---- on disk


@pytest.mark.parametrize("keep_features", [True, False])
def test_the_cache_makes_a_bank_once_a_key(keep_features, tmp_path: Path):
    bank = FeatureBank(4, keep_features=keep_features)
    bank.add(features(), torch.arange(30), logits=features()[:, :2], labels=torch.arange(30))
    made: list[str] = []

    def get(key: BankKey) -> FeatureBank:
        return BankCache(tmp_path / "banks").get(key, lambda: made.append(key.file) or bank)

    key = BankKey("cnn sha256:1 1x8x8 clean", "digits", 30, 4, keep_features)
    assert same(get(key), bank) and same(get(key), bank)
    assert len(made) == 1
    for other in (
        BankKey("cnn sha256:2 1x8x8 clean", "digits", 30, 4, keep_features),
        BankKey("cnn sha256:1 1x8x8 clean", "others", 30, 4, keep_features),
        BankKey("cnn sha256:1 1x8x8 clean", "digits", 29, 4, keep_features),
        BankKey("cnn sha256:1 1x8x8 clean", "digits", 30, 4, not keep_features),
    ):
        get(other)
    assert len(set(made)) == 5


def test_a_damaged_file_is_made_anew_and_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path):
    bank = FeatureBank(4)
    bank.add(features(), torch.arange(30))
    key = BankKey("any", "any", 30, 4)
    cache = BankCache(tmp_path / "banks")
    cache.get(key, lambda: bank)
    (tmp_path / "banks" / key.file).write_bytes(b"cut short")
    assert same(cache.get(key, lambda: bank), bank)
    assert same(cache.get(key, lambda: pytest.fail("it was on disk")), bank)
    (tmp_path / "file").write_text("no folder")
    assert same(BankCache(tmp_path / "file").get(key, lambda: bank), bank)


@pytest.mark.parametrize("keep_features", [True, False])
def test_a_bank_with_a_flipped_bit_is_made_anew(keep_features, tmp_path: Path, caplog):
    bank = FeatureBank(4, keep_features=keep_features)
    bank.add(features(), torch.arange(30), labels=torch.arange(30))
    key, cache, made = BankKey("any", "any", 30, 4, keep_features), BankCache(tmp_path), []
    cache.get(key, lambda: bank)
    data = (tmp_path / key.file).read_bytes()
    for place in range(0, len(data), 23):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        (tmp_path / key.file).write_bytes(flipped)
        assert same(cache.get(key, lambda: made.append(1) or bank), bank), place
    assert len(made) > 0.9 * len(data) / 23
    assert f"{key.file} is damaged" in caplog.text and "computed again" in caplog.text


def test_processes_of_which_some_see_no_file_all_make_the_bank(tmp_path: Path, monkeypatch):
    bank = FeatureBank(4)
    bank.add(features(), torch.arange(30))
    key, made = BankKey("any", "any", 30, 4), []
    BankCache(tmp_path).get(key, lambda: bank)
    monkeypatch.setattr(bank_cache, "everyones", lambda hit: [hit, False])
    BankCache(tmp_path).get(key, lambda: made.append(1) or bank)
    assert made == [1]
