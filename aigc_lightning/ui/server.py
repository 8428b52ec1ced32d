"""The server of the page: routes, and what each answers."""

import json
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aigc_lightning import __version__, plugins
from aigc_lightning.errors import UserError
from aigc_lightning.ui.asked import Asked
from aigc_lightning.ui.calls import Calls
from aigc_lightning.ui.data_calls import DataCalls
from aigc_lightning.ui.guard import UPLOADS, Guard
from aigc_lightning.ui.models import Models
from aigc_lightning.ui.paths import NotThereError, confined
from aigc_lightning.ui.runs import Runs
from aigc_lightning.ui.training import Training
from aigc_lightning.ui.uploads import Uploads
from aigc_lightning.ui.worker import BusyError, Worker

_STATIC = Path(__file__).parent / "static"
#: Kinds of files that are served from run folders and results, by extension.
_KINDS = {".png": "image/png", ".gif": "image/gif", ".html": "text/html; charset=utf-8"}
#: Kinds of the page's own files: those of the system's table differ from machine to machine.
_PAGE_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
#: What reports may do: nothing but show themselves, with their own styles and pictures.
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


@dataclass(frozen=True)
class Settings:
    """What the command was given.

    Args:
        root: folder of the runs, which exists.
        token: secret without which nothing is answered.
        hosts: values of the header Host that are accepted.
        port: of the server; the cookie is named after it.
        data: folders of pictures that the panel Data may read.
        device: where models run, such as "cpu".
        memory: bytes of models to keep loaded.
        allow_training: whether runs can be started and stopped.
        allow_addresses: whether checkpoints can be http(s) addresses.
    """

    root: Path
    token: str
    hosts: frozenset[str]
    port: int
    data: tuple[Path, ...] = ()
    device: str = "cpu"
    memory: int = 2 * 2**30
    allow_training: bool = False
    allow_addresses: bool = False


class Page:
    """Everything that the server holds, with a method for each route."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="aigc-ui-"))  # readable by this user only
        # Also where a server that could not start never gets to `close`.
        self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        for name in ("uploads", "results"):
            (self.folder / name).mkdir()
        roots = [settings.root, *settings.data]
        self.runs, self.uploads = Runs(settings.root), Uploads(self.folder / "uploads")
        self.worker = Worker(self.folder / "results")
        models = Models(settings.memory, settings.device)
        addresses = settings.allow_addresses
        self.calls = Calls(settings.root, self.worker, self.uploads, models, allow_addresses=addresses)
        self.data = DataCalls(roots, self.worker)
        self.training = Training(roots, self.worker, self.folder)

    def close(self) -> None:
        """End what is running, and remove uploads and results."""
        self.worker.close()
        self.training.stop()
        self._remove()

    def start(self) -> dict[str, Any]:
        """Return what the page needs first."""
        return {
            "version": __version__,
            "folder": str(self.settings.root),
            "training": self.settings.allow_training,
            "addresses": self.settings.allow_addresses,
            "data": sorted({plugin.name for plugin in plugins.plugins("data")}),
            "presets": [name for name, _, _ in plugins.presets()],
        }


def application(settings: Settings) -> Guard:
    """Return the ASGI application."""
    page = Page(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        page.close()

    app = Starlette(
        routes=_routes(page),
        lifespan=lifespan,
        exception_handlers={UserError: _refused, json.JSONDecodeError: _refused, UnicodeDecodeError: _refused},
    )
    return Guard(app, settings.token, settings.hosts, f"aigc_ui_{settings.port}")


def _routes(page: Page) -> list[Route]:
    runs, calls = page.runs, page.calls

    def run_of(request: Request) -> str:
        return request.query_params.get("run", "")

    routes = [
        Route("/", _static, methods=["GET"]),
        Route("/static/{name:path}", _static, methods=["GET"]),
        _get("/api/start", lambda _: page.start()),
        _get("/api/runs", lambda _: runs.summaries()),
        _get("/api/run", lambda request: runs.detail(run_of(request))),
        _get("/api/metrics", lambda request: runs.metrics(run_of(request))),
        _get("/api/checkpoints", lambda _: runs.checkpoints()),
        _get("/api/difference", lambda request: runs.difference(run_of(request), request.query_params.get("with", ""))),
        _get("/api/file", lambda request: _file(runs.root, f"{run_of(request)}/{request.query_params.get('path')}")),
        _get("/api/job", lambda request: page.worker.job(request.query_params.get("id", "")).public()),
        _get("/api/result", lambda request: _result(page, request)),
        _post("/api/cancel", lambda asked: page.worker.job(asked.text("id")).cancel()),
        _post("/api/describe", calls.describe),
        _post("/api/sample", calls.sample),
        _post("/api/walk", calls.walk),
        _post("/api/edit", calls.edit),
        _post("/api/search", calls.search),
        _post("/api/data", page.data.look),
        Route(UPLOADS, _uploader(page.uploads), methods=["POST"]),
    ]
    if page.settings.allow_training:
        routes += [
            _get("/api/training", lambda _: page.training.status()),
            _post("/api/training/form", page.training.form),
            _post("/api/training/start", page.training.start),
            _post("/api/training/stop", lambda _: page.training.stop()),
        ]
    return routes


def _get(path: str, answer: Callable[[Request], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        found = await run_in_threadpool(answer, request)
        return found if isinstance(found, Response) else _Json(found)

    return Route(path, endpoint, methods=["GET"])


def _post(path: str, answer: Callable[[Asked], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        asked = Asked(json.loads(await request.body()))
        return _Json(await run_in_threadpool(answer, asked))

    return Route(path, endpoint, methods=["POST"])


def _uploader(uploads: Uploads) -> Callable[[Request], Any]:
    async def upload(request: Request) -> Response:
        return _Json(await run_in_threadpool(uploads.add, await request.body()))

    return upload


class _Json(JSONResponse):
    """JSON without nan and infinity, which browsers do not read: a loss that is one of them becomes null."""

    def render(self, content: Any) -> bytes:
        try:
            return json.dumps(content, allow_nan=False).encode()
        except ValueError:  # rare, and slow with thousands of steps
            return json.dumps(_finite(content), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


@cache
def _page_files() -> dict[str, bytes]:
    """Return the files of the page by name."""
    return {path.relative_to(_STATIC).as_posix(): path.read_bytes() for path in _STATIC.rglob("*") if path.is_file()}


async def _static(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    content = _page_files().get(name)
    if content is None:
        return PlainTextResponse("Not found.", 404)
    return Response(content, media_type=_PAGE_KINDS[Path(name).suffix])


def _file(root: Path, name: str) -> Response:
    """Return a picture or a report below a root."""
    path = confined(root, name)
    kind = _KINDS.get(path.suffix)
    if kind is None or not path.is_file():
        raise NotThereError
    headers = {"Content-Security-Policy": _REPORT_POLICY} if path.suffix == ".html" else {}
    return FileResponse(path, media_type=kind, headers=headers)


def _result(page: Page, request: Request) -> Response:
    job = page.worker.job(request.query_params.get("id", ""))
    return _file(job.folder, request.query_params.get("name", ""))


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, UserError):
        return JSONResponse({"error": "The request is no JSON."}, 400)
    status = 404 if isinstance(error, NotThereError) else 429 if isinstance(error, BusyError) else 400
    return JSONResponse({"error": f"{error.what} {error.hint}".strip()}, status)
