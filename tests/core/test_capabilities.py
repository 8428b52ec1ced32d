from typing import Any

import pytest
import torch
from conditional_models import Filler, Painter

from aigc_lightning.core.capabilities import num_sampled_classes, takes
from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.method_options import method_options
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.models.dcgan import DCGAN
from aigc_lightning.models.vae import VAE

SPEC = ImageSpec(3, 8, 8, ("a", "b", "c"), captions=True, masks=True)


def test_a_model_with_labels_takes_the_classes_of_its_spec():
    assert num_sampled_classes(Painter(SPEC)) == 3
    assert num_sampled_classes(Painter(ImageSpec(3, 8, 8, captions=True))) == 0


def test_a_model_that_takes_labels_with_some_options_says_how_many():
    small: dict[str, Any] = {"latent_size": 4, "width": 8}
    assert num_sampled_classes(DCGAN(SPEC, **small)) == 0
    assert num_sampled_classes(DCGAN(SPEC, **small, conditioning="projection")) == 3


def test_models_without_labels_have_no_classes_to_choose():
    assert num_sampled_classes(VAE(SPEC, latent_size=2, width=8)) == 0
    assert num_sampled_classes(Filler(SPEC)) == 0


def test_arguments_with_options_of_their_own_are_no_further_options():
    class Both(Filler):
        def edit(self, images, *, direction: str = "AtoB", strength: float = 1.0):  # type: ignore[override]
            return images

    assert list(method_options(Both(SPEC).edit)) == ["strength"]
    assert takes(Both(SPEC).edit, "direction") and not takes(Both(SPEC).edit, "masks") and not takes(None, "masks")


@pytest.mark.parametrize("count", [1, 16, 19])
def test_prompts_are_padded_like_labels(count):
    model = Painter(SPEC).eval()
    asked: list[tuple[int, ...]] = []
    plain = model.sample

    def watched(seeds, labels=None, prompts=None, **options):
        asked.append((len(seeds), len(labels), len(prompts)))
        return plain(seeds, labels, prompts, **options)

    model.sample = watched  # type: ignore[method-assign]
    seeds, labels, texts = range(count), [n % 3 for n in range(count)], [f"text {n}" for n in range(count)]
    images = sampled(model, seeds, labels, prompts=texts, noise=0.0)
    assert len(images) == count and set(asked) == {(16, 16, 16)}
    for place in (0, count - 1):
        alone = sampled(model, [place], [labels[place]], prompts=[texts[place]], noise=0.0)
        assert torch.equal(alone[0], images[place])
