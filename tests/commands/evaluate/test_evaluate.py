"""Scores on the command line: tables, receipts, pages, and the refusal to compare what cannot be compared."""

import json

import pytest
from torch import Tensor

from aigc_lightning.models.autoencoder import Autoencoder
from aigc_lightning.models.dcgan import DCGAN


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIGC_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def scores(path):
    return json.loads(path.read_text())["sections"][0]["scores"]


def test_a_generator_gets_a_table_a_receipt_and_a_page(aigc, trained, judge, folder):
    done = aigc("evaluate", trained, "--extractor", judge, "--num", 200, "--out", "e", "--json", "copy.json")
    assert done.code == 0, done.err
    assert "Frechet distance" in done.out and "REAL AGAINST REAL" in done.out and "FID" not in done.out
    receipt = json.loads((folder / "e" / "scores.json").read_text())
    assert receipt == json.loads((folder / "copy.json").read_text())
    section = receipt["sections"][0]
    assert {"frechet_distance", "kernel_distance", "precision", "recall", "coverage"} < section["scores"].keys()
    assert section["protocol"]["num_real"] == section["protocol"]["num_fake"] == 200
    assert section["protocol"]["extractor"].startswith("cnn sha256:") and section["protocol"]["resize"] == "clean"
    assert receipt["model"]["step"] == 40 and len(receipt["model"]["sha256"]) == 16
    assert receipt["model"]["averaged_weights"] is True and section["subject"]["seeds"] == "0-199"
    page = (folder / "e" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "Nearest neighbours" in page and "src='http" not in page


def test_the_same_checkpoint_gets_the_same_digits_and_other_seeds_others(aigc, trained, judge, folder):
    options = ("--extractor", judge, "--num", 150, "--metrics", "frechet_distance,precision_recall")
    for name, seed in {"a": 0, "b": 0, "c": 1000}.items():
        assert aigc("evaluate", trained, *options, "--seed", seed, "--out", name).code == 0
    first, second, third = (scores(folder / name / "scores.json") for name in "abc")
    assert first == second != third and set(first) == {"frechet_distance", "precision", "recall"}


def test_samples_are_scored_with_the_models_own_options(aigc, trained, judge, folder, monkeypatch):
    plain = DCGAN.sample

    def sample(self: DCGAN, seeds: list[int], labels: list[int] | None = None, *, fade: float = 1.0) -> Tensor:
        return plain(self, seeds, labels) * fade

    monkeypatch.setattr(DCGAN, "sample", sample)
    monkeypatch.setattr(DCGAN, "network_evaluations", lambda self, fade=1.0: 7, raising=False)
    monkeypatch.setattr(DCGAN, "named_components", lambda self, options: {"veil": "ab12"}, raising=False)
    options = ("--extractor", judge, "--num", 60, "--metrics", "frechet_distance")
    for name, own in {"plain": (), "faded": ("--fade", "0.2")}.items():
        assert aigc("evaluate", trained, *options, *own, "--out", name).code == 0
    assert scores(folder / "plain" / "scores.json") != scores(folder / "faded" / "scores.json")
    subject = json.loads((folder / "faded" / "scores.json").read_text())["sections"][0]["subject"]
    assert subject["options"] == {"fade": 0.2} and subject["network_evaluations"] == 7
    assert subject["veil_sha256"] == "ab12"
    done = aigc("evaluate", trained, *options, "--fad", "0.2")
    assert done.code == 2 and "--fade" in done.err and len(done.lines) <= 4


def test_a_classifier_gets_its_scores_by_class(aigc, judge, folder):
    done = aigc("evaluate", judge, "--out", "e")
    assert done.code == 0 and "Accuracy" in done.out, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert section["kind"] == "classification" and section["scores"]["accuracy"] > 0.9
    assert list(section["classes"]) == list("0123456789")


def test_a_classifier_on_other_classes_is_refused(aigc, judge):
    done = aigc("evaluate", judge, "--data", "shapes", "--data.size", 16)
    assert done.code == 2 and "knows the classes 0, 1, 2, 3" in done.err and len(done.lines) <= 4


def test_folders_are_compared_like_models(aigc, trained, judge, folder):
    aigc("sample", trained, "--seeds", "0-39", "--out", "one")
    aigc("sample", trained, "--seeds", "40-79", "--out", "two")
    done = aigc("evaluate", "--fake", "one", "--real", "two", "--extractor", judge, "--out", "e")
    assert done.code == 0, done.err
    assert scores(folder / "e" / "scores.json")["frechet_distance"] > 0
    done = aigc("evaluate", "--fake", "one", "--real", "one", "--metrics", "psnr,mae", "--out", "p")
    assert done.code == 0 and scores(folder / "p" / "scores.json")["mae"] == 0
    done = aigc("evaluate", "--fake", "one", "--real", "two", "--metrics", "psnr")
    assert done.code == 2 and "No file in one has the name" in done.err


def test_runs_are_compared_when_their_protocols_agree(aigc, trained, judge, folder):
    for name, num in {"a": 100, "b": 100, "c": 120}.items():
        options = ("--num", num, "--seed", 7 if name == "b" else 0, "--metrics", "frechet_distance")
        assert aigc("evaluate", trained, "--extractor", judge, *options, "--out", name).code == 0
    done = aigc("compare", "a", "b")
    assert done.code == 0 and "Frechet distance" in done.out and done.out.count(" *") == 1
    assert set(json.loads(aigc("compare", "a", "b", "--json").out)) == {"a", "b"}
    done = aigc("compare", "a", "c")
    assert done.code == 2 and "differ in their num real: 100 and 120" in done.err and len(done.lines) <= 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((), "Nothing to score"),
        (("RUN", "--metrics", "frechet"), "frechet_distance"),
        (("RUN", "--metrics", "psnr"), "no score psnr for a DCGAN"),
        (("RUN", "--metrics", "bits_per_dim"), "no score bits_per_dim for a DCGAN"),
        (("RUN", "--steps", "3"), "knows '--steps'"),
        (("RUN", "--metric", "psnr"), "Did you mean --metrics"),
        (("--fake", "x", "--real", "y", "--metrics", "bits_per_dim"), "a score of models"),
        (("RUN", "--num", "1"), "at least 2"),
        (("RUN",), "aigc assets fetch inception"),
        (("RUN", "--extractor", "RUN"), "does not embed images"),
        (("RUN", "--extractor", "incepton"), "inception"),
        (("RUN", "--extractor", "JUDGE", "--resize", "area"), "no resize protocol"),
        (("RUN", "--extractor", "JUDGE", "--data", "digts"), "Did you mean digits"),
        (("RUN", "--extractor", "JUDGE", "--data.sze", "8"), "data.size"),
        (("RUN", "--fake", "x"), "both given"),
        (("--fake", "x"), "Only one folder"),
        (("--fake", "x", "--real", "y"), "no folder x"),
        (("RUN", "--device", "cuda:9"), "no device"),
    ],
)
def test_mistakes_are_explained(aigc, trained, judge, argv, message):
    known = {"RUN": trained, "JUDGE": judge}
    done = aigc("evaluate", *(known.get(argument, argument) for argument in argv))
    assert done.code == 2 and message in done.err and len(done.lines) <= 4 and "Traceback" not in done.err


def test_a_run_without_scores_cannot_be_compared(aigc, trained, judge):
    done = aigc("compare", trained, judge)
    assert done.code == 2 and "holds no scores" in done.err and "aigc evaluate" in done.err
    assert "Only one run" in aigc("compare", trained).err


def test_scores_that_cannot_be_computed_do_not_take_the_others_along(aigc, folder):
    options = ["--model=autoencoder", "--model.width=4", "--data=digits", "--data.size=12", "--run=r"]
    assert aigc("fit", *options, "--trainer.max_steps=1", "--trainer.accelerator=cpu").code == 0
    done = aigc("evaluate", "r", "--num", 20)
    assert done.code == 0, done.err
    assert "MS-SSIM (ms_ssim) is left out. It needs 161 pixels per side, but the images have 12x12." in done.out
    section = json.loads((folder / "r" / "evaluation" / "scores.json").read_text())["sections"][0]
    assert {"psnr", "ssim"} < section["scores"].keys() and list(section["left_out"]) == ["ms_ssim"]
    assert "ms_ssim) is left out" in (folder / "r" / "evaluation" / "report.html").read_text()
    done = aigc("evaluate", "r", "--num", 20, "--metrics", "psnr,ssim,ms_ssim")
    assert done.code == 2 and "ms_ssim" in done.err and "--metrics" in done.err


def test_reconstructions_are_scored_in_pairs_and_as_a_set(aigc, judge, folder, monkeypatch):
    options = ["--model=autoencoder", "--model.width=4", "--data=digits", "--data.size=16", "--run=r"]
    assert aigc("fit", *options, "--trainer.max_steps=1", "--trainer.accelerator=cpu").code == 0
    judged = ("evaluate", "r", "--extractor", judge, "--num", 60)
    assert aigc(*judged, "--out", "all").code == 0
    pairs, sets = json.loads((folder / "all" / "scores.json").read_text())["sections"]
    assert "psnr" in pairs["scores"] and {"frechet_distance", "precision"} < sets["scores"].keys()
    assert sets["protocol"]["num_fake"] == 60 and "seeds" not in sets["subject"]
    assert aigc(*judged, "--metrics", "frechet_distance", "--out", "one").code == 0
    assert scores(folder / "one" / "scores.json") == {"frechet_distance": sets["scores"]["frechet_distance"]}
    monkeypatch.setattr(Autoencoder, "edit", lambda self, images: images)
    assert aigc(*judged, "--metrics", "frechet_distance", "--out", "same").code == 0
    perfect = scores(folder / "same" / "scores.json")["frechet_distance"]
    assert perfect == pytest.approx(0, abs=1e-3) and sets["scores"]["frechet_distance"] > 1


def test_few_images_leave_scores_out(aigc, trained, judge, folder):
    done = aigc("evaluate", trained, "--extractor", judge, "--num", 4, "--out", "e")
    assert done.code == 0, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert "inception_score" in section["left_out"] and "frechet_distance" in section["scores"]
    assert "(inception_score) is left out." in done.out


def test_a_likelihood_model_gets_bits_per_dimension(aigc, folder):
    options = ["--model=vae", "--model.width=4", "--data=digits", "--data.size=8", "--run=r"]
    assert aigc("fit", *options, "--trainer.max_steps=2", "--trainer.accelerator=cpu").code == 0
    done = aigc("evaluate", "r", "--num", 20)
    assert done.code == 0 and "Bits per dimension" in done.out and "UNIFORM OVER 256 LEVELS" in done.out, done.err
    sections = {
        section["kind"]: section
        for section in json.loads((folder / "r" / "evaluation" / "scores.json").read_text())["sections"]
    }
    assert set(sections) == {"pairs", "likelihood"}
    likelihood = sections["likelihood"]
    assert likelihood["subject"]["likelihood"] == "lower_bound" and likelihood["protocol"]["num"] == 20
    assert set(likelihood["scores"]) == {"bits_per_dim", "bits_per_dim_stderr"}
    assert "Likelihood of real images" in (folder / "r" / "evaluation" / "report.html").read_text()
    assert aigc("evaluate", "r", "--num", 20, "--metrics", "bits_per_dim", "--out", "other").code == 0
    assert scores(folder / "other" / "scores.json") == likelihood["scores"]
    done = aigc("compare", "r", "other")
    assert done.code == 0 and "\u2264 " in done.out and "±" not in done.out
    done = aigc("evaluate", "r", "--metrics", "bits_per_dim", "--steps", 3)
    assert done.code == 2 and "knows '--steps'" in done.err and len(done.lines) <= 4
    done = aigc("evaluate", "r", "--metrics", "bits_per_dim", "--data.size", 16)
    assert done.code == 2 and "8x8 grey" in done.err and "16x16 grey" in done.err


@pytest.mark.parametrize("kind", ["bernoulli", "estimate"])
def test_a_likelihood_that_is_left_out_is_explained(aigc, folder, monkeypatch, kind):
    options = ["--model=vae", "--model.width=4", "--data=digits", "--data.size=8", "--run=r"]
    if kind == "bernoulli":
        options.append("--model.likelihood=bernoulli")
    else:
        monkeypatch.setattr("aigc_lightning.models.vae.VAE.likelihood_kind", "estimate")
    assert aigc("fit", *options, "--trainer.max_steps=2", "--trainer.accelerator=cpu").code == 0
    done = aigc("evaluate", "r", "--num", 20)
    assert done.code == 0 and "Bits per dimension (bits_per_dim) is left out." in done.out, done.err
    asked = aigc("evaluate", "r", "--num", 20, "--metrics", "bits_per_dim")
    if kind == "bernoulli":
        assert asked.code == 2 and "256 levels" in asked.err and "256 levels" in done.out
    else:
        assert asked.code == 0 and "\u2248" in asked.out and "--metrics bits_per_dim" in done.out


def test_an_embedder_is_scored_by_retrieval(aigc, judge, trained, folder):
    done = aigc("evaluate", judge, "--metrics", "retrieval", "--num", 100, "--out", "e")
    assert done.code == 0 and "Recall@1" in done.out and "PIXELS" in done.out, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert section["kind"] == "retrieval" and section["protocol"]["num"] == 100
    assert 0.8 < section["scores"]["recall_at_1"] <= section["scores"]["recall_at_5"] <= 1
    assert section["scores"]["mean_average_precision"] > section["baseline"]["mean_average_precision"] > 0.1
    assert set(section["classes"]) == {str(digit) for digit in range(10)}
    done = aigc("evaluate", trained, "--metrics", "retrieval")
    assert done.code == 2 and "no score retrieval for a DCGAN" in done.err
    done = aigc("evaluate", "--fake", "x", "--real", "y", "--metrics", "retrieval")
    assert done.code == 2 and "a score of models" in done.err


def test_an_extractor_is_scored_without_a_model(aigc, judge, folder):
    asked = ("--extractor", judge, "--data", "digits", "--num", 100, "--out", "e")
    done = aigc("evaluate", *asked)
    assert done.code == 0 and "Recall@1" in done.out and "PIXELS" in done.out, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert section["kind"] == "retrieval" and 0.8 < section["scores"]["recall_at_1"] <= 1
    done = aigc("evaluate", *asked, "--metrics", "psnr")
    assert done.code == 2 and "psnr is no score of an extractor" in done.err


def test_images_are_found_by_their_captions(aigc, judge, folder):
    small = ("--data.size", 16, "--data.num_train", 128, "--data.num_val", 50, "--data.batch_size", 32)
    options = ("--model.width", 4, "--model.text_options.size", 16, "--trainer.accelerator", "cpu", *small)
    steps = ("--trainer.max_steps", 4, "--trainer.val_check_interval", 2, "--run", "r")
    done = aigc("fit", "--config", "metric_shapes_text", *options, *steps)
    assert done.code == 0 and "val/knn_error" in (folder / "r" / "metrics.csv").read_text(), done.err
    done = aigc("evaluate", "r", "--metrics", "text_retrieval", "--num", 40, "--out", "e")
    assert done.code == 0 and "Recall@1, by text" in done.out and "RANDOM VECTORS" in done.out, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert section["kind"] == "text_retrieval" and section["protocol"]["queries"] <= section["protocol"]["num"] == 40
    scores = section["scores"]
    assert 0 <= scores["text_recall_at_1"] <= scores["text_recall_at_10"] <= 1
    assert aigc("index", "r", "shapes", *small[:6], "--out", "i.index").code == 0
    done = aigc("search", "i.index", "--prompt", "a red circle", "--num", 3, "--json")
    assert done.code == 0 and len(json.loads(done.out)) == 3, done.err
    done = aigc("evaluate", judge, "--metrics", "text_retrieval")
    assert done.code == 2 and "no score text_retrieval for a CNN" in done.err


def test_training_images_are_told_from_held_out_ones(aigc, judge, trained, folder):
    done = aigc("evaluate", judge, "--metrics", "membership_auc", "--out", "e")
    assert done.code == 0 and "Membership inference, AUC" in done.out and "HALVES" in done.out, done.err
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert section["kind"] == "membership" and section["protocol"]["loss"] == "cross entropy"
    assert 0.4 < section["scores"]["membership_auc"] < 0.7 and " to " in section["subject"]["interval_of_95_percent"]
    done = aigc("evaluate", trained, "--metrics", "membership_auc")
    assert done.code == 2 and "no score membership_auc for a DCGAN" in done.err
    done = aigc("evaluate", judge, "--metrics", "membership_auc", "--part", "train")
    assert done.code == 2 and "has not seen" in done.err
    done = aigc("evaluate", "--fake", "x", "--real", "y", "--metrics", "membership_auc")
    assert done.code == 2 and "a score of models" in done.err


def test_an_embedder_is_scored_by_few_shot_episodes(aigc, judge, folder):
    """Ten classes of digits: 20-way episodes are left out."""
    done = aigc("evaluate", judge, "--metrics", "retrieval,few_shot", "--num", 200, "--out", "e")
    assert done.code == 0 and "5-way 1-shot accuracy" in done.out, done.err
    assert "20-way 5-shot accuracy" in done.out and "10 are there" in done.out
    retrieval, section = json.loads((folder / "e" / "scores.json").read_text())["sections"]
    assert retrieval["kind"] == "retrieval" and section["kind"] == "few_shot"
    scores = section["scores"]
    assert 0.8 < scores["few_shot_5_way_1_shot"] < scores["few_shot_5_way_5_shot"] <= 1
    assert 0 < scores["few_shot_5_way_1_shot_stderr"] < 0.02
    assert scores["few_shot_5_way_1_shot"] > section["baseline"]["few_shot_5_way_1_shot"] > 0.2
    assert section["protocol"]["episodes"] == 1000 and set(section["left_out"]) == {
        "few_shot_20_way_1_shot",
        "few_shot_20_way_5_shot",
    }


def test_copies_that_are_mirrored_or_cropped_are_shown_on_request(aigc, judge, trained, folder):
    asked = ("--extractor", judge, "--metrics", "changed_copy_rate", "--num", 64, "--out", "e")
    done = aigc("evaluate", trained, *asked)
    assert done.code == 0 and "mirrored and cropped ones included" in done.out, done.err
    assert "Copies of training images" in (folder / "e" / "report.html").read_text()
    section = json.loads((folder / "e" / "scores.json").read_text())["sections"][0]
    assert 0 <= section["scores"]["changed_copy_rate"] <= 1
