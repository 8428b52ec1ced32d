import pytest

from aigc_lightning.core.io.redaction import HIDDEN, redacted, redacted_text


@pytest.mark.parametrize(
    "name", ["api_key", "apiKey", "WANDB_API_KEY", "hf_token", "token", "password", "db_passwd", "client_secret",
             "private_key", "access_key", "credentials", "secret_name", "my-token"]
)  # fmt: skip
def test_values_under_secret_names_are_hidden(name):
    assert redacted({"a": [{name: "s3cr3t", "b": 1}]}) == {"a": [{name: HIDDEN, "b": 1}]}
    for text in (f"--x.{name} s3cr3t --y 2", f"{name}=s3cr3t", f'"{name}": "s3cr3t"', f"--{name}=s3cr3t"):
        assert "s3cr3t" not in redacted_text(text)


@pytest.mark.parametrize(
    "name", ["tokenizer", "token_size", "num_tokens", "key", "keyboard", "passes", "monkey", "secre"]
)
def test_ordinary_names_are_left_alone(name):
    assert redacted({name: "gpt2"}) == {name: "gpt2"}
    assert redacted_text(f"--model.{name} gpt2") == f"--model.{name} gpt2"
    assert redacted_text(f"{name}: gpt2") == f"{name}: gpt2"


def test_numbers_and_nothing_are_left_alone():
    values = {"token": None, "api_key": "", "password": 3, "n": 0.5, "flag": True, "list": [1, "a"]}
    assert redacted(values) == values


def test_logins_in_addresses_are_hidden():
    assert redacted({"proxy": "http://me:pw@host:80/x"}) == {"proxy": f"http://{HIDDEN}@host:80/x"}
    assert redacted_text("from s3://id:key@bucket/y") == f"from s3://{HIDDEN}@bucket/y"
    assert redacted("http://host:80/a@b") == "http://host:80/a@b"


def test_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "abcdefgh1234")
    monkeypatch.setenv("OTHER_TOKEN", "short")
    assert redacted(["x abcdefgh1234 y"]) == [f"x {HIDDEN} y"]
    assert redacted_text("failed with abcdefgh1234") == f"failed with {HIDDEN}"
    assert redacted_text("a short word") == "a short word"


def test_the_original_is_left_alone():
    values = {"token": "abc", "inner": {"token": "abc"}}
    redacted(values)
    assert values == {"token": "abc", "inner": {"token": "abc"}}
