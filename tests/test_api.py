import re
from pathlib import Path

import pytest
from PIL import Image

from aigc_lightning import UserError, edit, evaluate, fit, sample
from aigc_lightning.yaml_file import read_yaml

PNG = b"\x89PNG"
TINY = {"trainer": {"max_steps": 2}, "model": {"width": 4, "latent_size": 4}, "data": {"size": 8, "batch_size": 4}}


def test_training_returns_the_run_whose_options_were_given(folder):
    made = fit("dcgan_digits", run="made", grids={"num": 4, "every_n_steps": 1}, **TINY)
    assert made.folder == Path("made") and made.load().record["step"] == 2
    values = read_yaml(made.folder / "config.yaml")
    assert values["model"]["init_args"]["width"] == 4 and values["data"]["init_args"]["size"] == 8
    assert made._repr_png_() == (made.folder / "grids" / "step_000002.png").read_bytes()
    more = fit(resume=made.folder, trainer={"max_steps": 3})
    assert more.folder == made.folder and more.load().record["step"] == 3


def test_a_section_can_name_its_class(folder):
    run = fit(
        model={"name": "autoencoder", "width": 4},
        data={"name": "digits", "size": 8, "augmentation": {"flip": True}},
        trainer={"max_steps": 1},
        run="named",
    )
    values = read_yaml(run.folder / "config.yaml")
    assert values["model"]["class_path"].endswith("Autoencoder") and values["data"]["init_args"]["augmentation"]["flip"]


def test_samples_are_those_of_the_command(aigc, trained, folder):
    assert aigc("sample", trained, "--seeds", "2-3", "--out", "command", "--grid").code == 0
    made = sample(trained, [2, 3], out="function")
    assert [path.name for path in made.paths] == ["000002.png", "000003.png"] and len(made) == 2
    for path in made.paths:
        assert path.read_bytes() == (folder / "command" / path.name).read_bytes()
    assert made._repr_png_() == (folder / "command" / "grid.png").read_bytes()


def test_pictures_are_edited(folder):
    Image.new("L", (12, 6), 30).save("a.png")
    made = edit(None, "a.png", ops="rotate=90", out="turned")
    assert [Image.open(path).size for path in made.paths] == [(6, 12)]
    assert (made._repr_png_() or b"").startswith(PNG)


def test_scores_are_a_mapping_and_a_table(trained, judge, folder):
    found = evaluate(trained, extractor=judge, num=20, metrics="frechet_distance", out="scores")
    assert list(found) == ["frechet_distance"] and found["frechet_distance"] > 0 and len(found) == 1
    assert (found.folder / "report.html").is_file()
    assert re.search(r"<td>Frechet distance ↓</td><td>[\d.]+</td>", found._repr_html_())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fit("dcgan_digit"), "dcgan_digit"),
        (lambda: fit("dcgan_digits", model={"widht": 4}, run="x"), "widht"),
        (lambda: sample("nowhere", [0]), "nowhere"),
        (lambda: sample("nowhere", [-1]), "negative"),
        (lambda: sample("nowhere", [0], out="samples.npz"), "one file"),
        (lambda: evaluate("nowhere"), "nowhere"),
        (lambda: edit("nowhere", "a.png"), "a.png"),
    ],
)
def test_mistakes_raise_what_the_commands_say(call, said, folder):
    with pytest.raises(UserError, match=said):
        call()
