"""What the servers of demo.py and study.py share: replies, static files, their address and uvicorn."""

import socket
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response

from utils import UserError, reason

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
# Nothing is loaded from elsewhere, browsers keep nothing, and the address, which is a rater's key, is sent to nobody.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def reply(content: str, kind: str = "text/plain", status: int = 200) -> Response:
    """Return a reply with the headers that all replies have."""
    return Response(content, status, HEADERS, media_type=kind)


def file_reply(path: Path, cache: str = "no-store") -> Response:
    """Return a reply with a small file, of which browsers are told by `cache` how long they may keep it."""
    return Response(path.read_bytes(), headers=HEADERS | {"Cache-Control": cache}, media_type=TYPES[path.suffix])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket listening on `host` and `port`. Raises UserError if that is not allowed or the port is taken."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: {reason(error)}; choose another") from error


def address(server_socket: socket.socket, host: str) -> str:
    """Return the address of a listening socket for browsers, such as http://127.0.0.1:8000."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{server_socket.getsockname()[1]}"


def uvicorn_server(application: Starlette, **settings: Any) -> uvicorn.Server:
    """Return a uvicorn server that prints only warnings. settings: further ones of uvicorn.Config."""
    config = uvicorn.Config(
        application, http="h11", ws="none", access_log=False, log_level="warning", server_header=False, **settings
    )
    return uvicorn.Server(config)
