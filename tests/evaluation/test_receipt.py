import json
import math
from dataclasses import replace

import pytest

from aigc_lightning.errors import UserError
from aigc_lightning.evaluation.receipt import Receipt, Section, check_comparable, load_receipt

PROTOCOL = {"extractor": "cnn sha256:ab", "resize": "clean", "num_real": 10, "num_fake": 10, "reference": "cd"}
SECTION = Section("generation", {"frechet_distance": 1.5, "precision": 0.25}, PROTOCOL)


def test_a_receipt_comes_back_as_it_was_written(tmp_path):
    receipt = Receipt("a", [SECTION], {"step": 7})
    receipt.save(tmp_path / "evaluation" / "scores.json")
    for place in (tmp_path, tmp_path / "evaluation", tmp_path / "evaluation" / "scores.json"):
        assert load_receipt(place) == receipt
    assert "torch" in receipt.versions


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    scores = {"psnr": math.inf, "ssim": 1.0}
    Receipt("a", [Section("pairs", scores, {}, classes={"x": {"f1": math.nan}})]).save(tmp_path / "scores.json")
    section = json.loads((tmp_path / "scores.json").read_text())["sections"][0]
    assert section["scores"] == {"psnr": None, "ssim": 1.0} and section["classes"] == {"x": {"f1": None}}


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"protocol_version": 1, "name": "x", "sections": [{}]}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match="not written by `aigc evaluate`"):
        load_receipt(tmp_path)


def test_scores_of_another_version_are_refused(tmp_path):
    Receipt("a", [SECTION]).save(tmp_path / "scores.json")
    text = (tmp_path / "scores.json").read_text().replace('"protocol_version": 1', '"protocol_version": 0')
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match="protocol version 0"):
        load_receipt(tmp_path)


@pytest.mark.parametrize("key", PROTOCOL)
def test_any_difference_of_protocols_is_refused_and_named(key):
    other = replace(SECTION, protocol={**PROTOCOL, key: "another"})
    with pytest.raises(UserError, match=f"of a and b differ in their {key.replace('_', ' ')}: .* and another"):
        check_comparable({"a": Receipt("a", [SECTION]), "b": Receipt("b", [other])})


def test_a_setting_on_one_side_only_is_a_difference():
    other = replace(SECTION, protocol={**PROTOCOL, "input": "ef"})
    with pytest.raises(UserError, match="differ in their input"):
        check_comparable({"a": Receipt("a", [SECTION]), "b": Receipt("b", [other])})


def test_kinds_in_common_are_compared_and_others_left_out():
    pairs = Section("pairs", {"psnr": 20.0}, {"num": 1})
    both = {"a": Receipt("a", [SECTION, pairs]), "b": Receipt("b", [pairs])}
    assert check_comparable(both) == ["pairs"]
    with pytest.raises(UserError, match="no kind of score in common: a has generation; b has pairs"):
        check_comparable({"a": Receipt("a", [SECTION]), "b": Receipt("b", [pairs])})
