"""`aigc ui`: a local web page to watch runs, try models and look at data."""

import argparse
import secrets
import socket
import sys
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

from aigc_lightning.config.command_line import command_parser, parse
from aigc_lightning.core.io.output import echo
from aigc_lightning.errors import UserError

_PORT = 8188


def ui(argv: list[str]) -> int:
    """Show runs, models and data on a web page of this machine."""
    parser = command_parser(
        "aigc ui",
        ui.__doc__,
        "aigc ui",
        "aigc ui runs --data PICTURES --allow-training",
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="of the runs (default: runs)")
    parser.add_argument("--port", type=int, default=_PORT, help=f"port, 0 for a free one (default: {_PORT})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of pictures that the page may read, beside that of the runs; may be repeated",
    )
    parser.add_argument("--device", default="cpu", help="where models run: cpu, cuda, mps (default: cpu)")
    parser.add_argument("--memory", type=float, default=2.0, metavar="GB", help="of models kept loaded (default: 2)")
    parser.add_argument("--allow-training", action="store_true", help="the page may start and stop runs")
    parser.add_argument("--allow-addresses", action="store_true", help="checkpoints may be http(s) addresses")
    options = parse(parser, argv)
    if options.memory <= 0 or not 0 <= options.port < 2**16:
        raise UserError("--memory must be above 0, and --port from 0 to 65535.", "Give other numbers.")
    for folder in (options.folder, *options.data):
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}.", "Write: aigc ui FOLDER_OF_RUNS")
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise UserError("The page needs starlette and uvicorn.", 'Install them: pip install "aigc-lightning[ui]"')
    return _serve(options)


def _serve(options: argparse.Namespace) -> int:
    """Listen until Ctrl-C."""
    import uvicorn

    from aigc_lightning.inference.loaded_model import chosen_device
    from aigc_lightning.ui.server import Settings, application

    chosen_device(options.device)
    listening = _listen(options.host, options.port)
    port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
    names = _names(options.host)
    settings = Settings(
        root=options.folder.resolve(),
        token=token,
        hosts=frozenset(f"{name}:{port}" for name in names),
        port=port,
        data=tuple(folder.resolve() for folder in options.data),
        device=options.device,
        memory=int(options.memory * 2**30),
        allow_training=options.allow_training,
        allow_addresses=options.allow_addresses,
    )
    config = uvicorn.Config(application(settings), log_level="warning", access_log=False, server_header=False)
    if "localhost" not in names:
        echo("Warning: other machines can reach this page, unencrypted; whoever has its address can use it.")
    sys.stdout.write(f"Open http://{names[0]}:{port}/?token={token}\nCtrl-C ends it.\n")  # `echo` would hide the token
    sys.stdout.flush()
    uvicorn.Server(config).run([listening])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        UserError: the address does not exist, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With its protocol named, asyncio sends each answer at once: else a second packet waits 40 ms for the browser.
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host}:{port} cannot be listened on: {error}.", "Give another --port or --host.") from error
    return listening


def _names(host: str) -> list[str]:
    """Return the names by which browsers may call the server, the best one first."""
    try:
        address = ip_address(host)
    except ValueError:
        return ["localhost", "127.0.0.1"] if host == "localhost" else [host.lower()]
    if address.is_loopback:
        return [f"[{host}]" if address.version == 6 else host, "localhost"]
    if address.is_unspecified:
        return [socket.gethostname().lower(), socket.getfqdn().lower()]
    return [f"[{host}]" if address.version == 6 else host]
