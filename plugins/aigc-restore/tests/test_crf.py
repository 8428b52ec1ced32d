"""The mean field against exact enumeration, and the layer."""

from itertools import product

import pytest
import torch

from aigc_restore.crf import CRF, dense_messages, free_energy, mean_field, sequential_mean_field

POTTS = 1 - torch.eye(2, dtype=torch.float64)


def energies(unaries: torch.Tensor, kernel: torch.Tensor, compatibility: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Return the energy of every labelling of pixels with costs (K, N) and pairs (N, N)."""
    num_labels, count = unaries.shape
    found = {}
    for labels in product(range(num_labels), repeat=count):
        value = sum(float(unaries[label, i]) for i, label in enumerate(labels))
        for i in range(count):
            value += sum(float(kernel[i, j] * compatibility[labels[i], labels[j]]) for j in range(i))
        found[labels] = value
    return found


def log_partition(table: dict[tuple[int, ...], float]) -> float:
    return float(torch.logsumexp(-torch.tensor(list(table.values()), dtype=torch.float64), 0))


def test_two_pixels_by_hand():
    unaries = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)  # (K, N): the costs of each label
    kernel = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    table = energies(unaries, kernel, POTTS)
    log_z = log_partition(table)
    first = sum(torch.tensor(-value - log_z).exp() for labels, value in table.items() if labels[0] == 0)
    second = sum(torch.tensor(-value - log_z).exp() for labels, value in table.items() if labels[1] == 0)
    assert float(first) == pytest.approx(0.82724, abs=1e-5) and float(second) == pytest.approx(0.43422, abs=1e-5)
    assert -log_z == pytest.approx(0.11720, abs=1e-5)
    q = mean_field(unaries[None], dense_messages(kernel[None]), POTTS, 100)
    assert q[0, 0].tolist() == pytest.approx([0.86610, 0.43345], abs=1e-5)


def nine_pixels(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    unaries = torch.randn((1, 2, 9), generator=generator, dtype=torch.float64)
    half = torch.rand((1, 9, 9), generator=generator, dtype=torch.float64)
    return unaries, half + half.transpose(1, 2)


@pytest.mark.parametrize("seed", range(3))
def test_the_free_energy_never_rises_and_stays_above_the_exact_one(seed):
    unaries, kernel = nine_pixels(seed)
    exact = -log_partition(energies(unaries[0], kernel[0], POTTS))
    messages = dense_messages(kernel)
    values = [
        float(free_energy(sequential_mean_field(unaries, kernel, POTTS, sweeps), unaries, messages, POTTS))
        for sweeps in range(6)
    ]
    assert all(later <= earlier + 1e-12 for earlier, later in zip(values[:-1], values[1:], strict=True))
    assert values[-1] >= exact and values[0] > values[-1]


def test_without_pairs_the_mean_field_is_exact():
    unaries, kernel = nine_pixels(0)
    q = mean_field(unaries, dense_messages(0 * kernel), POTTS, 3)
    torch.testing.assert_close(q, (-unaries).softmax(dim=1))
    exact = -log_partition(energies(unaries[0], 0 * kernel[0], POTTS))
    assert float(free_energy(q, unaries, dense_messages(0 * kernel), POTTS)) == pytest.approx(exact, abs=1e-9)


def scene(size: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return noisy logits, an image of two colours, and the labels that belong to it."""
    labels = torch.zeros(1, size, size, dtype=torch.int64)
    labels[:, 6:18, 4:15] = 1
    images = torch.where(labels > 0, 0.6, -0.4)[:, None].expand(1, 3, size, size) + 0.05 * torch.randn(1, 3, size, size)
    logits = 2 * torch.nn.functional.one_hot(labels, 2).permute(0, 3, 1, 2) + 2 * torch.randn(1, 2, size, size)
    return logits, images, labels


def test_the_layer_corrects_noisy_labels_along_the_image():
    logits, images, labels = scene()
    before = (logits.argmax(1) != labels).float().mean()
    after = (CRF(2)(logits, images).argmax(1) != labels).float().mean()
    assert before > 0.15 and after < 0.02


def test_a_window_as_large_as_the_image_is_the_same_as_all_pairs():
    logits, images, _ = scene(12)
    torch.testing.assert_close(CRF(2, radius=11)(logits, images), CRF(2)(logits, images), atol=1e-4, rtol=1e-4)
    assert (CRF(2, radius=1)(logits, images) - CRF(2)(logits, images)).abs().max() > 0.1


def test_large_images_have_windows():
    logits, images = torch.randn(1, 3, 70, 60), torch.zeros(1, 1, 70, 60)
    found = CRF(3, num_steps=1)(logits, images)
    torch.testing.assert_close(found, CRF(3, num_steps=1, radius=7)(logits, images))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1, 70, 60))


def test_the_weights_can_be_learnt():
    logits, images, labels = scene(16)
    layer = CRF(2, appearance_weight=0.01, smoothness_weight=0.01)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.nll_loss(layer(logits, images), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
