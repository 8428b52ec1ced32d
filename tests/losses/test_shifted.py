import torch

from aigc_lightning.losses.shifted import shifted


def test_crops_begin_where_the_draws_say():
    images = torch.arange(2 * 3 * 20 * 24, dtype=torch.float32).view(2, 3, 20, 24)
    crops = shifted(images, torch.tensor([[0.0, 0.999], [0.5, 0.25]]))
    assert crops.shape == (2, 3, 12, 16)
    torch.testing.assert_close(crops[0], images[0, :, :12, 7:23])
    torch.testing.assert_close(crops[1], images[1, :, 4:16, 2:18])


def test_draws_that_were_rounded_up_stay_inside():
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(shifted(images, torch.ones(1, 2)), images[..., 7:15, 7:15])


def test_small_images_stay_as_they_are():
    images = torch.rand(1, 3, 15, 40)
    assert shifted(images, torch.rand(1, 2)) is images


def test_gradients_of_strides_reach_all_positions_alike():
    images = torch.zeros(256, 1, 32, 32, requires_grad=True)
    draws = torch.rand(256, 2, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(shifted(images, draws)[..., ::4, ::4].sum(), images)
    # Without shifts a sixteenth of the positions have all of the gradient.
    phases = gradient[..., 8:24, 8:24].mean(dim=(0, 1)).view(4, 4, 4, 4).mean(dim=(0, 2))
    assert phases.min() > 0.03 and phases.max() < 0.1
