"""Nobody but the page opened with its token gets an answer, and nothing is read outside of the runs."""

import io
import re
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from aigc_lightning.errors import UserError
from aigc_lightning.ui.paths import check_value, confined

STATIC = Path(__file__).parents[2] / "aigc_lightning" / "ui" / "static"


def png(size=(8, 8)):
    content = io.BytesIO()
    Image.new("RGB", size, "red").save(content, "PNG")
    return content.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width, height):
    """Return a PNG of a few bytes that claims a size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/start", "/api/runs", "/?token=wrong", "/nothing"])
def test_nothing_is_answered_without_the_token(make_client, path):
    assert make_client().get(path).status_code == 403


def test_the_token_moves_from_the_address_to_a_cookie_that_scripts_cannot_read(make_client):
    answer = make_client().get("/", params={"token": "a-secret"}, follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and cookie.startswith("aigc_ui_8188=")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "127.0.0.1", "localhost.evil.example:8188", ""])
def test_another_host_is_refused(client, host):
    assert client.get("/api/start", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:8188"])
def test_another_origin_is_refused_even_with_the_token(client, origin):
    for answer in (
        client.get("/api/start", headers={"origin": origin}),
        client.post("/api/sample", json={}, headers={"origin": origin}),
        client.options("/api/start", headers={"origin": origin, "access-control-request-method": "GET"}),
    ):
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pictures_are_not_shown_on_other_pages(client, site):
    assert client.get("/api/runs", headers={"sec-fetch-site": site}).status_code == 403
    assert client.get("/api/runs", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_each_answer_has_the_policy(client):
    for path in ("/", "/static/app.js", "/api/runs", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_no_served_file_has_an_address_and_all_are_small(client):
    total = 0
    for path in STATIC.rglob("*"):
        if path.is_file():
            text = client.get(f"/static/{path.relative_to(STATIC).as_posix()}").text
            total += len(text.encode())
            found = set(re.findall(r"(?:https?:)?//[\w-]+\.[\w./-]+", text))
            assert found <= {"http://www.w3.org/2000/svg"}, path  # a namespace, which nothing asks
            assert not re.search(r"\sstyle=\"|<script>|\son\w+=\"", text) or path.parent.name == "lib", path
    assert 50_000 < total < 200_000


def test_uploads_are_limited_in_bytes_whatever_their_headers_say(client):
    large = b"x" * (32 * 2**20 + 1)
    assert client.post("/api/uploads", content=large).status_code == 413
    in_parts = (large[start : start + 2**20] for start in range(0, len(large), 2**20))
    assert client.post("/api/uploads", content=in_parts).status_code == 413
    assert client.post("/api/sample", content=b"[" * 70_000).status_code == 413


def test_an_upload_is_a_picture_by_its_content(client):
    good = client.post("/api/uploads", content=png((7, 5)), headers={"content-type": "text/html"})
    assert good.status_code == 200 and (good.json()["width"], good.json()["height"]) == (7, 5)
    gif = io.BytesIO()
    Image.new("L", (4, 4)).save(gif, "GIF")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 2**26))
    stuffed = png()[:33] + text + png()[33:]
    damaged = png((200, 200))[:200]
    for content in (b"", b"<svg/>", gif.getvalue(), damaged, bomb(60_000, 60_000), bomb(6000, 6000), stuffed):
        answer = client.post("/api/uploads", content=content, headers={"content-type": "image/png"})
        assert answer.status_code == 400 and answer.json()["error"], content[:8]


@pytest.mark.parametrize("name", ["../secret", "trained/../../secret", "/etc", "trained/1/out", "a\0b", "..\\secret"])
def test_nothing_outside_of_the_runs_is_found(client, runs, name):
    link = runs / "trained" / "1" / "out"
    if not link.is_symlink():
        link.symlink_to(runs.parent / "secret")
    for path in ("/api/run", "/api/metrics"):
        assert client.get(path, params={"run": name}).status_code == 404
    assert client.get("/api/file", params={"run": name, "path": "secret.png"}).status_code == 404
    assert client.get("/api/file", params={"run": "trained/1", "path": f"{name}/secret.png"}).status_code == 404
    assert client.post("/api/sample", json={"checkpoint": name}).status_code in (400, 404)


def test_only_pictures_and_reports_are_served(client, runs):
    for name in ("config.yaml", "checkpoints/last.ckpt", "log.txt", ".lock", "grids"):
        assert (runs / "trained" / "1" / name).exists()
        assert client.get("/api/file", params={"run": "trained/1", "path": name}).status_code == 404
    assert client.get("/api/file", params={"run": "trained/1", "path": "losses.png"}).status_code == 200


def test_a_report_cannot_run_scripts_or_reach_the_page(client, runs):
    (runs / "trained" / "1" / "report.html").write_text("<script>fetch('/api/runs')</script>", encoding="utf-8")
    policy = client.get("/api/file", params={"run": "trained/1", "path": "report.html"}).headers[
        "content-security-policy"
    ]
    assert policy.startswith("sandbox; default-src 'none'") and "script" not in policy and "allow" not in policy


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py"])
def test_the_server_does_not_show_its_own_files(client, path):
    assert client.get(path).status_code == 404


def test_addresses_are_refused_unless_allowed(client, make_client, tmp_path):
    values = {"checkpoint": "http://127.0.0.1:9/a.ckpt", "seeds": "0"}
    assert client.post("/api/sample", json=values).status_code == 400
    guided = {"checkpoint": "trained/1", "options": {"guide": "https://evil.example/x"}}
    assert client.post("/api/sample", json=guided).status_code == 400
    with pytest.raises(UserError, match="not read"):
        check_value("file:///etc/passwd", [tmp_path], allow_addresses=True)
    check_value("https://a.example/x.ckpt", [tmp_path], allow_addresses=True)


def test_values_of_options_lead_nowhere_else(tmp_path):
    inside, outside = tmp_path / "runs", tmp_path / "outside"
    (inside / "pictures").mkdir(parents=True)
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    for value in ("3", "color,cutout", "[64, 64]", "pictures", str(inside / "pictures"), "", "-1.5", "null"):
        check_value(value, [inside])
    bad = ["/etc", "../outside", "link", "link/a", "~/x", str(outside), "[a, /etc]", "{root: /etc}", "a\\b"]
    for value in (*bad, "s3://bucket/x", "pipe:cat /etc/passwd"):
        with pytest.raises(UserError):
            check_value(value, [inside])
    check_value(str(outside), [inside, outside])
    assert confined(inside, "pictures") == (inside / "pictures").resolve()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"checkpoint": 3}', b'{"checkpoint": "' + b"x" * 5000]
)
def test_strange_requests_are_refused(client, content):
    assert client.post("/api/sample", content=content).status_code == 400


def test_training_is_absent_unless_allowed(client):
    assert client.get("/api/training").status_code == 404
    assert client.post("/api/training/start", json={"preset": "dcgan_digits"}).status_code == 404
