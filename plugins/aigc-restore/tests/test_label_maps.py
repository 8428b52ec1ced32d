"""Label maps and masks that are refined by their pictures."""

import numpy as np
import pytest
import torch
from aigc_lightning import UserError
from aigc_lightning.inference.operations import apply_operations, parse_operations
from PIL import Image

from aigc_restore.crf import CRF
from aigc_restore.label_maps import color_logits, crf, refine, save_crf

COLORS = np.array([[0, 0, 222], [255, 80, 0], [0, 128, 255]], np.uint8)
WRITTEN = "#0000de+#ff5000+#0080ff"


def scene(height: int = 40, width: int = 48, noise: float = 0.25) -> tuple[np.ndarray, Image.Image, np.ndarray]:
    """Return a picture's labels (H, W), the picture, and the labels with errors."""
    generator = np.random.default_rng(0)
    labels = np.zeros((height, width), np.int64)
    labels[8:30, 6:22], labels[12:34, 28:42] = 1, 2
    tones = np.array([[60, 60, 60], [220, 200, 180], [120, 190, 90]])
    photo = Image.fromarray((tones[labels] + generator.normal(0, 4, (height, width, 3))).clip(0, 255).astype(np.uint8))
    wrong = generator.random((height, width)) < noise
    return labels, photo, np.where(wrong, generator.integers(0, 3, (height, width)), labels)


def errors(picture: Image.Image, labels: np.ndarray) -> float:
    return float((np.array(picture.convert("RGB")) != COLORS[labels]).any(axis=2).mean())


def test_a_label_map_follows_the_edges_of_its_picture():
    labels, photo, noisy = scene()
    before = Image.fromarray(COLORS[noisy])
    after = crf("")(before, photo)
    assert errors(before, labels) > 0.15 and errors(after, labels) < 0.02 and after.mode == "RGB"


def test_colours_between_those_of_labels_become_labels(tmp_path):
    labels, photo, noisy = scene()
    pixels = COLORS[noisy] + np.random.default_rng(1).normal(0, 20, (*labels.shape, 3))
    soft = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    after = crf(WRITTEN)(soft, photo)
    assert errors(after, labels) < 0.02
    Image.fromarray(COLORS[labels]).quantize(3).save(tmp_path / "labels.png")  # a palette
    assert after.tobytes() == crf(f"{tmp_path}/labels.png:num_steps=5")(soft, photo).tobytes()
    with pytest.raises(UserError, match="does not know which of them"):
        crf("")(soft, photo)


def test_a_grey_mask_becomes_black_and_white():
    labels, photo, noisy = scene()
    levels = np.where(noisy > 0, 170, 80) + np.random.default_rng(2).integers(-40, 40, labels.shape)
    mask = crf("")(Image.fromarray(levels.astype(np.uint8)), photo)
    assert mask.mode == "L" and set(np.unique(np.array(mask))) == {0, 255}
    assert ((np.array(mask) > 0) != (labels > 0)).mean() < 0.02


def test_transparency_and_larger_results_are_kept():
    labels, photo, noisy = scene()
    result = Image.fromarray(COLORS[noisy]).convert("RGBA")
    result.putalpha(77)
    after = crf("")(result, photo)
    assert after.mode == "RGBA" and after.getchannel("A").getextrema() == (77, 77)
    half = photo.resize((24, 20), Image.Resampling.BOX)
    assert errors(crf("")(result, half), labels) < 0.1


def test_blocks_give_the_labels_of_the_whole_image():
    generator = torch.Generator().manual_seed(0)
    logits, images = torch.randn(1, 2, 300, 270, generator=generator), torch.rand(1, 3, 300, 270, generator=generator)
    layer = CRF(2, num_steps=2)
    whole = layer(logits, images).argmax(1)
    assert torch.equal(refine(logits, images, layer), whole) and layer.radius is None


def test_colour_logits_by_hand():
    colors = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])  # two apart, so the deviation is 1
    images = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)
    assert color_logits(images, colors, 0.5).flatten().tolist() == pytest.approx([-1.125, -0.125])


def test_it_is_an_operation_after_the_model(tmp_path):
    labels, photo, noisy = scene()
    operations = parse_operations(f"crf={WRITTEN}:softness=0.4,flip=h", after_model=True)
    after = apply_operations(Image.fromarray(COLORS[noisy]), operations, photo)
    assert errors(after, labels[:, ::-1]) < 0.02
    with pytest.raises(UserError, match="works on what a model returns"):
        parse_operations("crf")
    with pytest.raises(UserError, match="a picture of 48x40"):
        apply_operations(Image.fromarray(COLORS[noisy]), parse_operations("crop=20x20,crf", after_model=True), photo)


def test_learned_weights_take_the_place_of_settings(tmp_path):
    labels, photo, noisy = scene()
    save_crf(CRF(3, appearance_weight=1e-4, smoothness_weight=1e-4), tmp_path / "none.safetensors")
    save_crf(CRF(3), tmp_path / "crf.safetensors")
    before = Image.fromarray(COLORS[noisy])
    value = f"{WRITTEN}:weights={tmp_path}"
    assert errors(crf(f"{value}/none.safetensors")(before, photo), noisy) == 0
    assert crf(f"{value}/crf.safetensors")(before, photo).tobytes() == crf(WRITTEN)(before, photo).tobytes()
    for wrong, what in (("/none.safetensors:color_std=1", "weights and color_std=1"), ("/no", "cannot be read")):
        with pytest.raises(UserError, match=what):
            crf(f"{value}{wrong}")
    with pytest.raises(UserError, match="for 3 labels, and there are 2"):
        crf(f"red+blue:weights={tmp_path}/crf.safetensors")(before, photo)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        *(("#0000ff", "1 different"), ("red+#ff0000", "1 different"), ("labels.png", "neither colours nor a picture")),
        *((":steps=3", "no setting 'steps'"), (":num_steps=0", "num_steps=0"), (":softness=x", "softness=x")),
        (":num_steps=1.5", "whole number"),
    ],
)
def test_what_is_refused(value, what):
    with pytest.raises(UserError) as caught:
        crf(value)
    assert what in f"{caught.value.what} {caught.value.hint}"
