"""Quantizers against their definitions."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from aigc_lightning.errors import UserError
from torch import Tensor

from aigc_autoregressive.tokenizers import (
    QUANTIZERS,
    BatchShare,
    Codebook,
    FiniteScalarQuantizer,
    MultiScaleQuantizer,
    VectorQuantizer,
)
from aigc_autoregressive.tokenizers.codebook import kmeans
from aigc_autoregressive.tokenizers.quantizer import pass_gradient, to_latents, to_vectors

SCALES = [(1, 1), (2, 3), (4, 6)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantizer(name: str, **options: object) -> VectorQuantizer | FiniteScalarQuantizer | MultiScaleQuantizer:
    torch.manual_seed(0)
    arguments = {"vq": (16, 4), "fsq": ([8, 5, 5, 5],), "multi_scale": (16, 4, SCALES)}[name]
    made = QUANTIZERS[name](*arguments, **options)
    if made.codebook is not None:
        made.codebook.start_from(noise(64, 4, seed=1))
    return made


@pytest.mark.parametrize("name", QUANTIZERS)
def test_latents_are_what_their_tokens_decode_to(name):
    made = quantizer(name)
    latents = noise(3, 4, 4, 6)
    found = made(latents)
    assert found.indices.shape == (3, made.num_tokens((4, 6))) and found.indices.max() < made.num_codes
    assert torch.equal(made.decode(found.indices, (4, 6)), found.latents)
    assert found.vectors.shape == (*found.indices.shape, 4) and not found.vectors.requires_grad


@pytest.mark.parametrize("name", QUANTIZERS)
def test_nothing_moves_in_evaluation(name):
    made = quantizer(name).eval()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    found = made(noise(3, 4, 4, 6))
    if made.codebook is not None:
        made.codebook.update(found.vectors, found.indices)
        made.codebook.frequencies[0] = before["codebook.frequencies"][0] = 0
        assert len(made.codebook.revive(found.vectors)) == 0
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


def test_vector_quantizer_takes_the_nearest_code():
    made = quantizer("vq")
    vectors = to_vectors(noise(2, 4, 3, 5))
    expected = torch.cdist(vectors, made.codebook.codes.expand(2, -1, -1)).argmin(-1)
    assert torch.equal(made(to_latents(vectors, (3, 5))).indices, expected)


# ---- gradients and losses


@pytest.mark.parametrize("name", ["vq", "multi_scale"])
def test_the_straight_through_gradient_is_the_identity(name):
    latents = noise(2, 4, 4, 6).requires_grad_()
    found = quantizer(name)(latents)
    slope = noise(2, 4, 4, 6, seed=2)
    (gradient,) = torch.autograd.grad((found.latents * slope).sum(), latents)
    assert torch.equal(gradient, slope)


def test_the_gradient_of_finite_scalars_is_that_of_their_bounds():
    made = quantizer("fsq")
    latents = noise(1, 4, 2, 2).double().requires_grad_()
    (gradient,) = torch.autograd.grad(made(latents).latents.sum(), latents)
    step = 1e-6
    for channel, levels in enumerate(made.levels.tolist()):
        bounds = [made._bounded(to_vectors(latents.detach() + way * step))[..., channel] for way in (1, -1)]
        slope = (bounds[0] - bounds[1]) / (2 * step) / (levels // 2)
        assert torch.allclose(gradient[:, channel].flatten(1), slope, rtol=1e-6)


def test_the_rotation_turns_vectors_into_codes_and_gradients_alike():
    vectors = noise(7, 5).double().requires_grad_()
    codes = noise(7, 5, seed=1).double()
    moved = pass_gradient(vectors, codes, "rotation")
    assert torch.equal(moved, codes)
    jacobian = torch.stack([torch.autograd.grad(moved[:, i].sum(), vectors, retain_graph=True)[0] for i in range(5)], 1)
    scale = (codes.norm(dim=1) / vectors.norm(dim=1)).view(-1, 1, 1)
    turn = jacobian / scale  # a rotation: orthogonal, of determinant 1, and it takes the vector to the code
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(5).double().expand(7, 5, 5))
    assert torch.allclose(torch.linalg.det(turn), torch.ones(7).double())
    assert torch.allclose((jacobian @ vectors.unsqueeze(-1)).squeeze(-1), codes)


@pytest.mark.parametrize("name", ["vq", "multi_scale"])
@pytest.mark.parametrize("learnt_by", ["ema", "loss"])
def test_beta_is_on_the_encoder_s_term(name, learnt_by):
    def gradients(beta: float) -> tuple[Tensor, Tensor | None]:
        made = quantizer(name, beta=beta, learnt_by=learnt_by)
        latents = noise(2, 4, 4, 6).requires_grad_()
        made(latents).loss.backward()
        return latents.grad, made.codebook.codes.grad

    (encoder, codes), (encoder_4, codes_4) = gradients(0.25), gradients(1.0)
    assert torch.allclose(encoder_4, 4 * encoder) and encoder.abs().sum() > 0
    if learnt_by == "loss":
        assert torch.equal(codes, codes_4) and codes.abs().sum() > 0
    else:
        assert codes is None and codes_4 is None


def test_the_loss_is_the_mean_squared_distance():
    latents = noise(2, 4, 3, 3)
    made = quantizer("vq", learnt_by="loss", beta=0.25)
    found = made(latents)
    distance = (latents - found.latents).square().mean()
    assert found.loss.item() == pytest.approx(1.25 * distance.item(), rel=1e-6)


# ---- finite scalars


@pytest.mark.parametrize(("levels", "num_codes"), [([8, 5, 5, 5], 1000), ([2, 2], 4), ([3, 4, 7], 84), ([16], 16)])
def test_finite_scalars_round_trip_exactly(levels, num_codes):
    made = FiniteScalarQuantizer(levels)
    assert made.num_codes == num_codes
    codes = made.decode(torch.arange(num_codes)[None], (1, num_codes))
    assert len(codes[0, :, 0].T.unique(dim=0)) == num_codes
    assert codes.min() == -1 and codes.max() <= 1
    half = (made.levels // 2).view(1, -1, 1, 1)
    offset = (made.levels % 2 == 0).view(1, -1, 1, 1) * 0.5
    width = ((made.levels - 1) * 1.001 / 2).view(1, -1, 1, 1)
    latents = torch.atanh((codes * half + offset) / width) - torch.atanh(offset / width)  # the bounds' inverse
    assert torch.equal(made(latents).indices, torch.arange(num_codes)[None])


@pytest.mark.parametrize("levels", [4, 5, 8])
def test_all_levels_of_a_finite_scalar_can_be_reached_and_0_is_level_0(levels):
    made = FiniteScalarQuantizer([levels])
    found = made(torch.linspace(-9, 9, 1001).view(1, 1, 1, -1)).indices
    assert found.unique().tolist() == list(range(levels))
    assert made(torch.zeros(1, 1, 1, 1)).latents.item() == 0


def test_finite_scalars_need_two_levels():
    with pytest.raises(UserError, match="at least 2"):
        FiniteScalarQuantizer([8, 1])


# ---- codebooks


def test_moving_averages_are_their_definition():
    book = Codebook(3, 2, decay=0.9)
    book.start_from(torch.tensor([[0.0, 0], [1, 0], [0, 1]]))
    start = book.codes.clone()
    vectors = torch.tensor([[[0.2, 0.0], [0.4, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    indices = torch.tensor([[0, 0, 1, 0]])
    book.update(vectors, indices)
    share = torch.tensor([3 / 4, 1 / 4, 0])
    sums = torch.tensor([[0.6, 0], [1, 1], [0, 0]]) / 4
    frequencies = 0.9 / 3 + 0.1 * share
    assert torch.allclose(book.frequencies, frequencies)
    assert torch.allclose(book.codes, (0.9 * start / 3 + 0.1 * sums) / frequencies[:, None])
    assert torch.allclose(book.codes[2], start[2])  # nobody chose it


def test_codes_that_nobody_chooses_stay_where_they_are():
    book = Codebook(2, 1, decay=0.5)
    book.start_from(torch.tensor([[0.0], [7.0]]))
    for _ in range(300):  # until the averages are too small to divide
        book.update(torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.int64))
    assert book.codes[1].item() == pytest.approx(7, rel=1e-4) and book.frequencies[1] < 1e-30


@pytest.mark.parametrize("learnt_by", ["ema", "loss"])
def test_dead_codes_are_revived_on_vectors_and_their_averages_start_anew(learnt_by):
    book = Codebook(8, 3, learnt_by, revive_below=0.1)
    vectors = noise(2, 5, 3)
    book.frequencies[2] = book.frequencies[6] = 0.1 / 8 - 1e-6
    if learnt_by == "ema":
        book.sums[2] = 123.0
    untouched = book.codes.clone()
    dead = book.revive(vectors, BatchShare(key=(0, 1)))
    assert dead.tolist() == [2, 6]
    for code in (2, 6):
        assert (vectors.flatten(0, 1) == book.codes[code]).all(1).any()
        assert book.frequencies[code] == 1 / 8
        if learnt_by == "ema":
            assert torch.allclose(book.sums[code], book.codes[code] / 8)
    assert not torch.equal(book.codes[2], book.codes[6])
    others = [0, 1, 3, 4, 5, 7]
    assert torch.equal(book.codes[others], untouched[others])
    assert len(book.revive(vectors)) == 0


def test_no_more_codes_are_revived_than_there_are_vectors():
    book = Codebook(8, 3)
    book.frequencies.zero_()
    assert len(book.revive(noise(1, 5, 3))) == 5


class Meeting:
    """The sums of processes, here threads, which wait for one another."""

    def __init__(self, count: int) -> None:
        self.barrier, self.parts = threading.Barrier(count), []

    def sum(self, part: Tensor) -> Tensor:
        self.parts.append(part)
        self.barrier.wait(timeout=60)
        total = torch.stack(self.parts).sum(0)
        if self.barrier.wait(timeout=60) == 0:
            self.parts.clear()
        self.barrier.wait(timeout=60)
        return total


@pytest.mark.parametrize("learnt_by", ["ema", "loss"])
def test_two_processes_end_with_the_codebook_of_one(learnt_by):
    start = Codebook(6, 3, learnt_by)
    start.frequencies[4] = 0
    vectors = noise(5, 4, 3)

    def end(shares: list[tuple[int, int]]) -> list[Codebook]:
        meeting, books = Meeting(len(shares)), [copy.deepcopy(start) for _ in shares]

        def work(book: Codebook, first: int, last: int) -> None:
            share = BatchShare((1, 2), first, 5, meeting.sum)
            for _ in range(3):
                book.update(vectors[first:last], book.nearest(vectors[first:last]), share)
                book.revive(vectors[first:last], share)

        with ThreadPoolExecutor() as threads:
            for done in [threads.submit(work, book, *share) for book, share in zip(books, shares, strict=True)]:
                done.result()
        return books

    (one,), two = end([(0, 5)]), end([(0, 3), (3, 5)])
    assert not torch.equal(one.codes, start.codes)
    for key, value in one.state_dict().items():
        assert torch.equal(two[0].state_dict()[key], two[1].state_dict()[key])
        torch.testing.assert_close(two[0].state_dict()[key], value)


def test_kmeans_ends_with_the_means_of_what_is_nearest():
    vectors = noise(300, 2)
    found = kmeans(vectors, 5, iterations=100)
    nearest = torch.cdist(vectors, found).argmin(1)
    means = torch.stack([vectors[nearest == code].mean(0) for code in range(5)])
    torch.testing.assert_close(found, means)
    errors = [
        torch.cdist(vectors, kmeans(vectors, 5, iterations=count)).min(1).values.square().sum() for count in (0, 20)
    ]
    assert errors[1] < 0.8 * errors[0]
    assert torch.equal(found, kmeans(vectors, 5, iterations=100))
    assert not torch.equal(found, kmeans(vectors, 5, key=(1,), iterations=100))


def test_kmeans_moves_centres_without_vectors_to_those_that_have_none_near():
    vectors = torch.cat([torch.zeros(50, 2), torch.tensor([[9.0, 0], [0, 9]])])
    found = kmeans(vectors, 3)
    assert torch.equal(found[found.sum(1).argsort(stable=True)].sum(1), torch.tensor([0.0, 9, 9]))
    assert len(found.unique(dim=0)) == 3


def test_a_codebook_needs_as_many_vectors_as_codes():
    with pytest.raises(UserError, match="8 codes cannot start from 5 vectors"):
        Codebook(8, 2).start_from(noise(5, 2))


# ---- several scales


def test_the_default_scales_have_680_tokens():
    assert MultiScaleQuantizer(8, 4).num_tokens((16, 16)) == 680


def test_each_scale_quantizes_what_those_before_left():
    made = quantizer("multi_scale")
    latents = noise(2, 4, 4, 6)
    found = made(latents)
    sums = made.partial_sums(found.indices)
    first = 0
    for scale, length in enumerate(made.lengths):
        rest = latents - (sums[scale - 1] if scale else 0)
        vectors = to_vectors(made.shrunk(rest, scale))
        torch.testing.assert_close(found.vectors[:, first : first + length], vectors)
        assert torch.equal(found.indices[:, first : first + length], made.codebook.nearest(vectors))
        first += length
    torch.testing.assert_close(made.partial_sums(found.indices[:, :7])[-1], sums[1])
    losses = [(latents - total).square().mean().item() for total in sums]
    loss = quantizer("multi_scale", learnt_by="loss")(latents).loss
    assert loss.item() == pytest.approx(1.25 * sum(losses) / 3, rel=1e-5)


def test_the_next_scale_s_inputs_are_the_sums_so_far_at_its_size():
    made = quantizer("multi_scale")
    found = made(noise(2, 4, 4, 6))
    sums = made.partial_sums(found.indices)
    inputs = made.next_inputs(found.indices)
    assert inputs.shape == (2, 30, 4)
    torch.testing.assert_close(inputs[:, 6:], to_vectors(sums[1]))
    torch.testing.assert_close(inputs[:, 0], sums[0][:, :, :2, :2].mean((2, 3)))


def test_scales_must_end_with_the_latents_size():
    made = quantizer("multi_scale")
    with pytest.raises(UserError, match="Latents are 4x5 and the last scale is 4x6"):
        made(noise(1, 4, 4, 5))


def test_the_codebook_of_several_scales_can_start_from_their_residuals():
    made = quantizer("multi_scale")
    vectors = made.start_vectors(noise(2, 4, 4, 6))
    assert vectors.shape == (2, 31, 4)
    made.codebook.start_from(vectors.flatten(0, 1))
    assert made.codebook.nearest(vectors).unique().numel() == 16


def test_an_exported_codebook_takes_any_number_of_vectors():
    found = quantizer("vq").codebook
    assert found is not None

    class Nearest(torch.nn.Module):
        def forward(self, vectors: Tensor) -> Tensor:
            return found.nearest(vectors)

    program = torch.export.export(Nearest(), (noise(2, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    vectors = noise(9000, 4)  # more than are compared at a time
    assert torch.equal(program.module()(vectors), found.nearest(vectors))


def test_tokens_are_found_again_after_coarser_ones():
    made, latents = quantizer("multi_scale"), noise(3, 4, 4, 6, seed=2)
    tokens = made(latents).indices
    assert torch.equal(made.found_again(latents, tokens), tokens)
    changed = tokens.clone()
    changed[:, 0] = (tokens[:, 0] + 1) % 16
    again = made.found_again(latents, changed)
    assert torch.equal(again[:, :1], tokens[:, :1]) and not torch.equal(again[:, 1:7], tokens[:, 1:7])
    left = latents - made.grown(changed[:, :1], 0)
    assert torch.equal(again[:, 1:7], made.nearest(left, 1))
