"""Policies by hand, how often they act, and that what is not always applied does not leak into the generator."""

import pytest
import torch

from aigc_lightning.core.engine.augmentation import POLICIES, Augmentation, augmenting_hook, color, cutout, translation
from aigc_lightning.core.engine.settings import Engine
from aigc_lightning.errors import UserError


def uniform(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(shape, generator=generator)


def pictures(count=4, channels=3, height=16, width=8):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


# ---- policies


def test_color_changes_brightness_saturation_and_contrast_by_hand():
    images = pictures(1)
    same = color(images, torch.tensor([[0.5, 0.5, 0.5]]))
    torch.testing.assert_close(same, images)
    torch.testing.assert_close(color(images, torch.tensor([[0.75, 0.5, 0.5]])), images + 0.25)
    grey = color(images, torch.tensor([[0.5, 0.0, 0.5]]))
    torch.testing.assert_close(grey, images.mean(dim=1, keepdim=True).expand_as(images))
    flat = color(images, torch.tensor([[0.5, 0.5, 0.0]]))
    torch.testing.assert_close(flat, images.mean() + (images - images.mean()) * 0.5)


@pytest.mark.parametrize(("y", "x"), [(0.0, 0.5), (0.999, 0.0), (0.5, 0.999), (0.5, 0.5)])
def test_translation_moves_whole_pixels_and_fills_with_zeros(y, x):
    images = pictures(1)  # 16 x 8 pixels: up to 2 rows and 1 column
    down, right = 2 - int(y * 5), 1 - int(x * 3)
    expected = torch.zeros_like(images)
    for row in range(16):
        for column in range(8):
            if 0 <= row - down < 16 and 0 <= column - right < 8:
                expected[..., row, column] = images[..., row - down, column - right]
    assert torch.equal(translation(images, torch.tensor([[y, x]])), expected)


def test_each_image_gets_its_own_translation():
    images = pictures(1).expand(640, -1, -1, -1)
    moved = translation(images, uniform()(640, 2))
    assert len({image.numpy().tobytes() for image in moved}) == 15  # 5 rows x 3 columns
    assert torch.equal(moved[5:6], translation(images[:1], uniform()(640, 2)[5:6]))


def test_cutout_removes_a_rectangle_of_half_the_sides_with_its_middle_anywhere():
    images = torch.ones(4000, 1, 16, 8)
    kept = cutout(images, uniform()(4000, 2))[:, 0]
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    rows, columns = (kept == 0).any(dim=2).sum(dim=1), (kept == 0).any(dim=1).sum(dim=1)
    assert torch.equal((kept == 0).sum(dim=(1, 2)), rows * columns)  # it is a rectangle
    # at the border half of it is inside
    assert [int(each) for each in (*rows.aminmax(), *columns.aminmax())] == [4, 8, 2, 4]
    middle = (kept == 0).float().mean(dim=0)
    torch.testing.assert_close(middle, middle.flip(0, 1), atol=0.05, rtol=0)


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_through_a_policy_are_right(name):
    policy, count = POLICIES[name]
    images = pictures(2, 3, 4, 8).double().requires_grad_()
    draws = uniform(3)(2, count).double()
    assert torch.autograd.gradcheck(lambda x: policy(x, draws), images)
    assert torch.autograd.gradgradcheck(lambda x: policy(x, draws).square(), images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_images_of_any_float_type_are_varied_as_those_of_single_precision(dtype):
    images = pictures(200, 3, 16, 128)
    draws = uniform()(200, 10)
    draws[0] = 1 - 2**-24  # the largest number below 1
    for policy, count in POLICIES.values():
        varied = policy(images.to(dtype), draws[:, :count])
        assert varied.dtype == dtype
        torch.testing.assert_close(varied.float(), policy(images, draws[:, :count]), atol=0.03, rtol=0.03)


# ---- how often


def augmentation(policies="color,translation,cutout", probability=1.0, **options):
    made = Augmentation(policies.split(","), **{"target": 0.6, "images": 1000, **options})
    made.probability.fill_(probability)
    return made


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_each_policy_acts_with_the_probability(probability):
    images = pictures(1).expand(4000, -1, -1, -1)
    for name in POLICIES:
        changed = (augmentation(name, probability)([images], uniform())[0] != images).flatten(1).any(dim=1)
        still = 1 / 15 if name == "translation" else 0.0  # the draw of no shift
        assert changed.float().mean().item() == pytest.approx(probability * (1 - still), abs=0.03)
    together = augmentation("color,cutout", probability)([images], uniform())[0]
    untouched = (together == images).flatten(1).all(dim=1)
    assert untouched.float().mean().item() == pytest.approx((1 - probability) ** 2, abs=0.03)


def test_images_that_are_judged_together_are_varied_alike():
    images = pictures(8)
    first, second = augmentation()([images, images], uniform())
    assert torch.equal(first, second) and not torch.equal(first, images)
    joint = augmentation("translation,cutout")([torch.cat([images, images], dim=1)], uniform())[0]
    apart = augmentation("translation,cutout")([images, images], uniform())
    assert torch.equal(joint, torch.cat(apart, dim=1))


# ---- no leak


def dots(size=8):
    """Return every image of one bright pixel in a row, and the dark one: what a translation makes of them is one."""
    return torch.cat([torch.eye(size), torch.zeros(1, size)]).view(size + 1, 1, 1, size)


def transitions():
    """Return how likely translation turns one of the nine images (column) into another (row)."""
    matrix = torch.zeros(9, 9, dtype=torch.float64)
    for x in (0.1, 0.5, 0.9):  # the three shifts of 8 pixels
        moved = translation(dots(), torch.tensor([[0.5, x]]).expand(9, 2))
        matrix += (moved[:, None] == dots()[None]).all(dim=(2, 3, 4)).double().T / 3
    return matrix


def test_with_a_probability_below_1_only_the_real_distribution_looks_real():
    """The argument of Karras et al., appendix C: what is seen of a distribution q is T q, and T can be inverted."""
    always = transitions()
    hidden = torch.linalg.svd(always).Vh[-1]
    assert (always @ hidden).abs().max() < 1e-12 < hidden.abs().max()
    real = torch.full((9,), 1 / 9, dtype=torch.float64)
    other = real + hidden * (0.1 / hidden.abs().max())
    assert other.min() > 0 and other.sum().item() == pytest.approx(1)
    for probability in (0.1, 0.3, 0.5, 0.6, 0.7, 0.9):
        seen = (1 - probability) * torch.eye(9, dtype=torch.float64) + probability * always
        assert torch.linalg.svdvals(seen).min() > 1e-3
        assert (seen @ (real - other)).abs().sum() > 0.9 * (1 - probability) * (real - other).abs().sum()
    # The negative control: always applied, it hides this difference, so a generator might learn either.
    torch.testing.assert_close(always @ real, always @ other, rtol=0, atol=1e-12)


def test_the_augmentation_has_the_transitions_of_that_argument():
    probability, count = 0.6, 20_000
    column = 2
    seen = augmentation("translation", probability)([dots()[column].expand(count, 1, 1, 8)], uniform())[0]
    shares = (seen[:, None] == dots()[None]).all(dim=(2, 3, 4)).double().mean(dim=0)
    expected = (1 - probability) * torch.eye(9, dtype=torch.float64)[column] + probability * transitions()[:, column]
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.015)


# ---- the adaptive probability


def stepped(made, logits, steps, batch=10, processes=1):
    for step in steps:
        made.observe(logits)
        made.finish_step(step, batch, lambda counts: counts * processes, updated=True)
    return made.probability.item()


def test_the_probability_moves_by_images_when_real_images_are_known_too_well_and_back():
    made = augmentation(probability=0.0)
    sure, unsure = torch.tensor([3.0, 2.0, 1.0, 4.0, 5.0]), torch.tensor([3.0, 2.0, 1.0, 4.0, -5.0])  # signs 1, 0.6
    assert stepped(made, sure, range(3)) == 0.0  # every fourth batch
    assert stepped(made, sure, range(3, 4)) == pytest.approx(0.04)
    assert stepped(made, sure, range(4, 12)) == pytest.approx(0.12)
    assert stepped(made, unsure - 10, range(12, 16)) == pytest.approx(0.08)
    assert stepped(made, unsure - 10, range(16, 60)) == 0.0
    assert stepped(made, unsure, range(60, 64)) == 0.0  # just at the target
    assert stepped(made, sure, range(64, 800)) == 1.0


def test_where_nothing_was_judged_the_probability_stays():
    made = augmentation(probability=0.5)
    for step in range(8):
        made.finish_step(step, 10, lambda counts: counts, updated=False)
    assert made.probability.item() == 0.5


def test_a_fixed_augmentation_keeps_nothing_in_checkpoints():
    assert augmentation(target=None).state_dict() == {}
    assert set(augmentation().state_dict()) == {"probability", "signs", "judged", "seen"}
    made = augmentation(target=None)
    assert stepped(made, torch.ones(3), range(20)) == 1.0


def test_a_model_that_does_not_say_how_it_judges_is_refused():
    with pytest.raises(UserError, match="observe_real"):
        augmentation().finish_step(0, 4, lambda counts: counts, updated=True)


# ---- in front of a network


def test_the_hook_varies_images_alone_and_only_when_it_is_time():
    on = [True]
    seen = []

    class Network(torch.nn.Module):
        def forward(self, *arguments):
            seen.append(arguments)

    network = Network()
    network.register_forward_pre_hook(augmenting_hook(augmentation(), uniform(), lambda: on[0]))
    images, labels = pictures(), torch.arange(4)
    network(images, labels)
    network(labels)
    on[0] = False
    network(images, labels)
    (varied, same_labels), (alone,), (untouched, _) = seen
    assert not torch.equal(varied, images) and same_labels is labels and alone is labels and untouched is images


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"augment": "adda"}, "adda"),
        ({"augment_policies": "color,cutouts"}, "cutouts"),
        ({"augment_target": 1.0}, "augment_target"),
        ({"augment_images": 0}, "augment_images"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_named(options, named):
    with pytest.raises(UserError, match=named):
        Engine(**options)
