import numpy as np
import pytest
import torch
from conditional_models import Painter
from PIL import Image

from aigc_lightning.core.chunks import sampled
from aigc_lightning.core.io.pictures import to_uint8
from aigc_lightning.core.spec import ImageSpec
from aigc_lightning.data.sets.digits import Digits
from aigc_lightning.data.sets.shapes import Shapes
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.image_sets import BLOCK, DataImages, FolderImages, ImageSet, Samples, chosen
from aigc_lightning.evaluation.references import reference_of, samples_like
from aigc_lightning.models.dcgan import DCGAN


def read_all(images, world_size=1):
    shares = [batch for rank in range(world_size) for batch in images.batches(rank, world_size)]
    pixels, numbers = (torch.cat([share[part] for share in shares]) for part in (0, 1))
    order = numbers.argsort()
    return pixels[order], numbers[order]


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return DCGAN(ImageSpec(1, 8, 8, tuple("0123456789")), latent_size=4, width=8, conditioning="concatenation").eval()


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_images_out_and_make_the_same_ones(generator, world_size):
    samples = Samples(generator, range(3 * BLOCK + 5))
    one, numbers = read_all(samples)
    several, shared = read_all(samples, world_size)
    assert numbers.tolist() == list(range(3 * BLOCK + 5)) == shared.tolist()
    assert torch.equal(one, several)


def all_labels(images: ImageSet) -> torch.Tensor:
    return torch.cat([labels for _, _, labels in images.batches() if labels is not None])


def test_samples_have_the_classes_of_the_images_that_they_are_compared_with(generator):
    real = DataImages(Digits(size=8), "val")
    fake = samples_like(real, generator)
    truth = all_labels(real)
    asked = all_labels(fake)
    assert torch.equal(truth, asked) and fake.class_names == real.class_names
    repeated = all_labels(samples_like(real, generator, num=400))
    assert repeated[360:].tolist() == truth[:40].tolist()


def test_an_unconditional_model_gets_no_classes():
    model = DCGAN(ImageSpec(1, 8, 8, ("a", "b")), latent_size=4, width=8).eval()
    samples = Samples(model, [3, 4])
    assert samples.class_names == () and samples.read([3])[2] is None


def test_the_fingerprint_is_of_pixels_labels_and_order_alone():
    whole = DataImages(Digits(size=8), "val")
    first = whole.subset(range(10)).fingerprint()
    assert first == DataImages(Digits(size=8, batch_size=3), "val").subset(range(10)).fingerprint()
    assert first != whole.subset(range(11)).fingerprint()
    assert first != whole.subset([1, 0, *range(2, 10)]).fingerprint()
    assert first != DataImages(Digits(size=16), "val").subset(range(10)).fingerprint()


def test_a_folder_may_hold_images_of_several_sizes(tmp_path):
    for name, size in {"b.png": (5, 7), "a.png": (8, 3), "c/d.jpg": (6, 6)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((*size[::-1], 3), 200, np.uint8)).save(tmp_path / name)
    images = FolderImages(tmp_path)
    assert [tuple(batch[0].shape) for batch in images.batches()] == [(1, 3, 3, 8), (1, 3, 7, 5), (1, 3, 6, 6)]
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"b\.png cannot be read"):
        list(FolderImages(tmp_path).batches())
    with pytest.raises(UserError, match="no folder"):
        FolderImages(tmp_path / "nowhere")


def test_a_choice_is_always_the_same_and_in_order():
    assert chosen(5, 9) == [0, 1, 2, 3, 4]
    numbers = chosen(1000, 100)
    assert numbers == sorted(set(numbers)) == chosen(1000, 100) and len(numbers) == 100
    assert 400 < np.mean(numbers) < 600  # not the first ones


def test_the_floor_is_of_other_images_than_the_reference():
    data = Digits(size=8)
    few = reference_of(data, "train", 500)
    assert isinstance(few.images, DataImages) and isinstance(few.spare, DataImages) and few.seen and few.held_out
    assert not set(few.images.numbers) & set(few.spare.numbers) and len(few.spare) == 500
    assert len(few.seen) == 1437 and len(few.held_out) == 360
    whole = reference_of(data, "train")
    assert isinstance(whole.spare, DataImages)
    assert len(whole.images) == 1437 and whole.seen is whole.images and whole.spare.part == "val"
    held_out = reference_of(data, "val", 100)
    assert isinstance(held_out.spare, DataImages)
    assert held_out.seen is None and held_out.spare.part == "val"


def test_samples_of_a_model_with_prompts_show_the_captions_of_the_reference():
    data = Shapes(size=16, num_val=70)
    torch.manual_seed(0)
    model = Painter(data.spec).eval()
    reference = reference_of(data, "val").images
    fake = samples_like(reference, model, num=75, seed=5)
    captions = [data.val_source()._scene(1, index).caption for index in range(70)]
    labels = all_labels(reference).tolist()
    assert list((fake.prompts or {}).values()) == captions + captions[:5]
    asked = to_uint8(sampled(model, [68 + 5], [labels[68]], prompts=[captions[68]]))
    assert torch.equal(fake.read([73])[0], asked)
    assert samples_like(DataImages(Digits(size=8), "val"), model).prompts is None
