"""`aigc trust keys new`."""

import pytest

pytest.importorskip("c2pa", reason="c2pa-python is not installed")


@pytest.fixture(autouse=True)
def own_settings(folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
    monkeypatch.delenv("AIGC_SIGN", raising=False)


def test_keys_lie_among_the_user_s_settings_and_are_not_overwritten(aigc, folder):
    done = aigc("trust", "keys", "new", "--name", "Kim")
    usual = folder / "settings" / "aigc_lightning" / "keys"
    assert done.code == 0
    assert sorted(path.name for path in usual.iterdir()) == [
        "certificates.pem",
        "key.pem",
        "root.pem",
    ]
    assert str(usual / "key.pem") in done.out and "AIGC_SIGN" not in done.out
    key = (usual / "key.pem").read_bytes()
    again = aigc("trust", "keys", "new")
    assert again.code == 2 and "never overwritten" in again.err and (usual / "key.pem").read_bytes() == key


def test_keys_elsewhere_are_named_by_the_environment(aigc, folder):
    done = aigc("trust", "keys", "new", "mine")
    assert done.code == 0 and "export AIGC_SIGN=mine" in done.out and (folder / "mine" / "key.pem").is_file()


def test_help_and_unknown_sub_commands(aigc):
    assert "aigc trust keys new" in aigc("trust").out
    assert "has no 'old'" in aigc("trust", "keys", "old").err
