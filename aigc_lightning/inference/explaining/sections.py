"""The parts of an explanation, by what a model can do.

Shapes: N images, C channels, H and W height and width in pixels, K classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aigc_lightning.core.io.pictures import image_grid, to_uint8
from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.generation import Judge
from aigc_lightning.evaluation.image_sets import ImageSet
from aigc_lightning.evaluation.report import neighbour_picture
from aigc_lightning.inference.explaining import generators
from aigc_lightning.inference.explaining.attribution import attributions
from aigc_lightning.inference.explaining.page import Part, heat
from aigc_lightning.inference.latent_walk import traversal
from aigc_lightning.metrics.copies import copies

_SEEDS = 32  # images on which effects are measured
_DIRECTIONS = 5
_ROWS, _STEPS = 6, 7
_NAMED = 3  # classes in a cell
_SURVIVES = 0.5  # rank correlation from which a map is said not to depend on the weights

Probabilities = Callable[[Tensor], Tensor]


def classified(model: Any, images: Sequence[Tensor], names: Sequence[str], target: int | None = None) -> Part:
    """Explain what a classifier sees in pictures.

    Args:
        model: with the capability `classify`.
        images: (C, H, W) in [-1, 1], of the model's size.
        names: of the images.
        target: the class to explain; the predicted one of each image when None.
    """
    classes, rows, pictures = model.spec.class_names, [], []
    for image, name in zip(images, names, strict=True):
        shares = model.classify(image[None].to(model.device)).float().softmax(1)[0]
        chosen = int(shares.argmax()) if target is None else target
        pixels = to_uint8(image)
        pictures.append(pixels[:3].expand(3, -1, -1))
        for method, found in attributions(model, image, chosen).items():
            if method != "random order":
                pictures.append(heat(found.map, pixels))
            rows.append(
                {
                    "picture": name,
                    "class": classes[chosen],
                    "probability": float(shares[chosen]),
                    "method": method,
                    "deletion_auc": found.deletion,
                    "insertion_auc": found.insertion,
                    "random_weights_correlation": found.randomised,
                    "depends_on_weights": "-" if method == "random order" else _yes(found.randomised < _SURVIVES),
                }
            )
    caption = (
        "Left to right: the picture, integrated gradients, Grad-CAM, occlusion; red speaks for the class, blue against "
        "it. Deletion: mean probability while the marked pixels are taken away, the strongest first (low is good); "
        "insertion: while they are added (high is good); compare with the random order. Correlation with the map of "
        "the same network with random weights: a map that stays the same shows edges, not what was learned."
    )
    return Part("What the classifier sees", caption, image_grid(torch.stack(pictures), 4), rows)


def found_directions(
    model: Any, seeds: Sequence[int], classify: Probabilities | None, names: Sequence[str]
) -> list[Part]:
    """Show the directions in which a generator's images vary, by principal components and by SeFa.

    Args:
        model: with latents.
        seeds: the first one's images are shown.
        classify: returns the probabilities (N, K) of images in [-1, 1]; None if there is no classifier.
        names: of its classes.
    """
    latents, found = generators.Latents(model, range(seeds[0], seeds[0] + _SEEDS)), []
    for method, title in {"pca": "principal components of the images", "sefa": "SeFa"}.items():
        try:
            directions = generators.directions(model, method, _DIRECTIONS)
        except UserError as error:
            found.append(Part(f"Directions by {title}", f"Left out. {error.what}"))
            continue
        rows, pictures = [], []
        for number, direction in enumerate(directions):
            effect = generators.effect(latents, direction, classify)
            row: dict[str, Any] = {"direction": number, "change_of_pixels": effect.change}
            if effect.classes is not None:
                row["change_of_classes"] = _largest(effect.classes, names)
            rows.append(row)
            pictures.append(to_uint8(generators.moved(latents, direction, _STEPS)))
        caption = (
            f"Rows: directions; columns: seed {seeds[0]} moved from -3 to 3 standard deviations. Changes are those "
            f"from -3 to 3, means over {_SEEDS} seeds: of the pixels, in a range of 2, and of the probabilities that a "
            "classifier gives."
        )
        found.append(Part(f"Directions by {title}", caption, image_grid(torch.cat(pictures), _STEPS), rows))
    return found


def drawn_units(model: Any, seeds: Sequence[int], classify: Probabilities, names: Sequence[str]) -> Part:
    """Show which channels of a generator draw which class: what is lost when they are silenced."""
    latents = generators.Latents(model, range(seeds[0], seeds[0] + 2 * _SEEDS))
    units = generators.ablate(latents, classify)
    rows = [
        {"class": name, "channels": _largest(units.falls[:, place], [*map(str, range(len(units.falls)))])}
        for place, name in enumerate(names)
    ]
    caption = (
        f"Channels of {units.layer} ({len(units.falls)} were tried), and by how much the probability of the class "
        "falls in images of the class when one of them is silenced."
    )
    return Part("Channels that draw a class", caption, None, rows)


def traversed(model: Any, images: Tensor) -> Part:
    """Show what the latent dimensions of a VAE change, those that say most about images first.

    Args:
        model: with latents, `invert` and `latent_divergence`.
        images: (N, C, H, W) in [-1, 1]; the first one is varied.
    """
    divergence = model.latent_divergence(images).float().cpu().mean(0)
    order = divergence.argsort(descending=True, stable=True)
    latent = model.invert(images[:1])
    values = torch.linspace(-3, 3, _STEPS)
    pictures = [model.decode(traversal(latent, int(place), values)) for place in order[:_ROWS]]
    rows = [{"dimension": int(place), "kl_in_nats": float(divergence[place])} for place in order]
    caption = (
        f"Rows: the {len(pictures)} dimensions with the largest KL divergence, from -3 to 3, the others as for the "
        f"first picture. {int((divergence > 0.01).sum())} of {len(divergence)} dimensions have more than 0.01 nats: "
        "the others say nothing about images."
    )
    return Part("Latent dimensions", caption, image_grid(to_uint8(torch.cat(pictures)), _STEPS), rows)


def remembered(judge: Judge, fake: ImageSet, seen: ImageSet, held_out: ImageSet, shown: int = 5) -> Part:
    """Show the training images that are nearest to generated ones, and how near held-out images come.

    Args:
        judge: computes features.
        fake: the generated images.
        seen: all training images.
        held_out: real images that the model has not seen.
        shown: training images beside each.
    """
    train, others = (judge.describe_real(images, images.name)[0].features for images in (seen, held_out))
    own = judge.describe(fake, fake.name).features
    assert train is not None and others is not None and own is not None
    found, calibration = copies(train, others, own), copies(train, others, others).distances
    nearest = torch.cdist(own, train).topk(min(shown, len(train)), largest=False).indices
    numbers = sorted(seen.numbers)  # the order of the bank
    rows, pictures = [], []
    for place, seed in enumerate(sorted(fake.numbers)):
        originals = [numbers[int(index)] for index in nearest[place]]
        pictures.append((fake.read([seed])[0][0], [seen.read([number])[0][0] for number in originals]))
        distance = float(found.distances[place])
        rows.append(
            {
                "seed": seed,
                "nearest_training_image": originals[0],
                "distance": distance,
                "copy_score": float((calibration > distance).double().mean()),
                "called_a_copy": _yes(distance < found.threshold),
            }
        )
    caption = (
        "Left: the generated image. Beside it: its nearest training images. The copy score is the share of held-out "
        "images that are farther from the training images than it is: 0.5 is usual for an independent image, and above "
        f"0.99 it is called a copy (of {len(calibration)} held-out images)."
    )
    return Part("Nearest training images", caption, neighbour_picture(pictures), rows)


def _largest(values: Tensor, names: Sequence[str]) -> str:
    """Return the numbers that differ most from 0, as a text such as "7 +0.31, 1 -0.12"."""
    order = values.abs().argsort(descending=True, stable=True)[:_NAMED].tolist()
    return ", ".join(f"{names[place]} {float(values[place]):+.2f}" for place in order)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
