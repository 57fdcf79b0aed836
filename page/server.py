"""The server of demo.py: the page, and PUT /upscale, which takes a picture and returns it upscaled."""

import asyncio
import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from page.jobs import MEGAPIXELS, Job, Jobs
from page.results import Results
from upscaling.models import load
from upscaling.upscaler import Upscaler
from utils import printable
from web_server import HEADERS, address, file_reply, listen, reply, uvicorn_server

ROOT = Path(__file__).parents[1]
MEGABYTES = 20  # limit of a picture that is sent
SECONDS = 60  # within which it must arrive
FORMATS = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tif": "image/tiff"}
# {argument of load(): its slider in the page, and the models that have it}, each from 0 to 1, or "auto" by default
SLIDERS: dict[str, dict[str, Any]] = {
    "strength": {"default": 1, "models": ["srgan"], "hint": "less is softer and invents less"},
    "restore": {"default": "auto", "models": ["srgan", "srresnet"], "hint": "removes blocks and noise"},
}
NAMES = ("Set5/LRx4/img_003", "Set14/LRx4/img_005", "Set5/LRx4/img_005", "Set14/LRx4/img_014", "Set14/LRx4/img_010")
EXAMPLES = [path for name in NAMES if (path := ROOT / f"data/benchmark/{name}.png").is_file()]


async def save_body(request: Request, path: Path) -> None:
    """Write the request's body to `path`. Raises HTTPException: 400 if empty, 408 if too slow, 413 if too large.

    A body that is too large is read to its end all the same, because a client reads no answer while it is sending.
    """
    size, limit = 0, MEGABYTES * 2**20
    try:
        async with asyncio.timeout(SECONDS):
            with open(path, "wb") as file:
                async for part in request.stream():
                    size += len(part)
                    if size <= limit:
                        file.write(part)
    except TimeoutError as error:
        raise HTTPException(408, f"the picture did not come within {SECONDS} seconds; try again") from error
    if size > limit:
        raise HTTPException(413, f"larger than {MEGABYTES} MB, the limit of this page; python upscale.py FILE takes it")
    if not size:
        raise HTTPException(400, "no picture came; send one, as curl -T picture.png does")


def parameters(request: Request, models: list[str]) -> tuple[str, str, dict[str, float]]:
    """Return the query's (model, format, {slider: value} without defaults). Raises HTTPException 400 for others."""
    values: dict[str, float] = {}
    known = {"model": models, "format": list(FORMATS), "job": None, "name": None} | dict.fromkeys(SLIDERS)
    for name, text in request.query_params.items():
        if name not in known:
            raise HTTPException(
                400, f"{name}: no such parameter; there are model, format, {', '.join(SLIDERS)} and job"
            )
        allowed = known[name]
        if allowed and text not in allowed:
            raise HTTPException(400, f"{name}={text}: must be one of {', '.join(allowed)}")
    model = request.query_params.get("model", models[-1])
    for name, slider in SLIDERS.items():
        text = request.query_params.get(name, str(slider["default"]))
        if text == slider["default"]:  # "auto"
            continue
        if not re.fullmatch(r"0?\.\d+|[01]|[01]\.0*", text):
            raise HTTPException(400, f"{name}={text}: must be a number from 0 to 1")
        if float(text) != slider["default"]:
            values[name] = float(text)
            if model not in slider["models"]:
                raise HTTPException(400, f"{name}={text}: only for model={' or '.join(slider['models'])}")
    return model, request.query_params.get("format", "png"), values


def application(methods: dict[str, Upscaler], jobs: Jobs, root: str) -> Starlette:
    """Return the Starlette application. methods: {name: Upscaler}. root: a folder for sources and results."""
    results = Results()
    mixture = functools.lru_cache(maxsize=4)(load)  # of the values that are not the default

    async def upscale(request: Request) -> Response:
        """Answer PUT /upscale with the result, and PUT /results with what the page needs to ask for it later."""
        stays = request.url.path == "/results"
        name = request.query_params.get("job") or secrets.token_hex(8)
        job = Job(request)
        try:
            jobs.require_place()
        except HTTPException:
            with contextlib.suppress(HTTPException):
                await save_body(request, Path(os.devnull))
            raise
        with contextlib.ExitStack() as stack:
            stack.enter_context(jobs.place(name, job))
            folder = Path(tempfile.mkdtemp(dir=root))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            await save_body(request, folder / "picture")
            model, ending, values = parameters(request, list(methods))
            ending = "png" if stays else ending
            target = folder / f"result.{ending}"
            upscaler = functools.partial(mixture, model, **values) if values else lambda: methods[model]
            async with jobs.turn(job):
                facts = await run_in_threadpool(jobs.upscale, job, folder / "picture", target, upscaler, stays)
            job.finished = True
            if stays:
                stem = printable(Path(request.query_params.get("name") or "picture").stem)[:100]
                facts["id"] = results.add(folder, f"{stem}_{model}_x4")
                return reply(json.dumps(facts), "application/json")
            end = BackgroundTask(stack.pop_all().close)  # runs once the result has been sent
        headers = {f"X-{name.title()}": fact.encode("ascii", "replace").decode() for name, fact in facts.items()}
        return FileResponse(target, headers=HEADERS | headers, media_type=FORMATS[ending], background=end)

    def result(request: Request) -> Response:
        name, _, ending = request.path_params["file"].rpartition(".")
        if ending not in FORMATS:
            raise HTTPException(404, f"no such format; there are {', '.join(FORMATS)}")
        path, title = results.encoded(name, ending)
        return FileResponse(path, headers=HEADERS, media_type=FORMATS[ending], filename=f"{title}.{ending}")

    def view(request: Request) -> Response:
        return FileResponse(results.view(request.path_params["name"]), headers=HEADERS, media_type="image/png")

    def archive(request: Request) -> Response:
        ending = request.query_params.get("format", "png")
        if ending not in FORMATS:
            raise HTTPException(400, f"format={ending}: must be one of {', '.join(FORMATS)}")
        pieces = results.archive(request.query_params.getlist("id"), ending)
        headers = HEADERS | {"Content-Disposition": 'attachment; filename="upscaled.zip"'}
        return StreamingResponse(pieces, headers=headers, media_type="application/zip")

    async def forget(request: Request) -> Response:
        for name in (await request.body()).decode().split():
            results.remove(name)
        return reply("")

    def settings(request: Request) -> Response:
        sliders = {name: slider for name, slider in SLIDERS.items() if set(slider["models"]) & set(methods)}
        choices = {"models": list(methods), "sliders": sliders, "formats": list(FORMATS), "examples": len(EXAMPLES)}
        return reply(json.dumps(choices | {"megabytes": MEGABYTES, "megapixels": MEGAPIXELS}), "application/json")

    def progress(request: Request) -> Response:
        job = jobs.all.get(request.path_params["name"])
        if job is None or job.finished:
            raise HTTPException(404, "no such job")
        return reply(json.dumps({"before": jobs.before(job), "done": job.done, "total": job.total}), "application/json")

    def example(request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(EXAMPLES):
            raise HTTPException(404, "no such example")
        return file_reply(EXAMPLES[number])

    def asset(request: Request) -> Response:
        return file_reply(Path(__file__).with_name(request.url.path[1:] or "page.html"))

    async def refused(request: Request, error: Any) -> Response:
        text = error.detail
        if error.status_code == 405 and request.url.path == "/upscale":
            text = f"{request.method}: send the picture by PUT, as curl -T picture.png does"
        response = reply(f"{text}\n", status=error.status_code)
        response.headers.update(error.headers or {})  # Allow, of 405
        if error.status_code == 503:
            response.headers["Retry-After"] = "60"
        return response

    async def gone(request: Request, error: Exception) -> Response:
        return reply("the picture did not come\n", status=400)

    routes = [
        *(Route(path, asset) for path in ("/", "/page.js", "/page.css")),
        Route("/health", lambda request: reply("ok\n")),
        Route("/settings", settings),
        Route("/examples/{number:int}", example),
        Route("/progress/{name}", progress),
        Route("/upscale", upscale, methods=["PUT"]),
        Route("/results", upscale, methods=["PUT"]),
        Route("/results/{file}", result),
        Route("/views/{name}", view),
        Route("/results.zip", archive),
        Route("/forget", forget, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused, ClientDisconnect: gone})


def serve(methods: dict[str, Upscaler], host: str, port: int, most: int) -> None:
    """Serve until Ctrl-C or SIGTERM, then delete all files. Raises UserError if the address cannot be used."""
    with listen(host, port) as server_socket, tempfile.TemporaryDirectory(prefix="srgan-page-") as root:
        jobs = Jobs(most)
        server = uvicorn_server(application(methods, jobs, root), timeout_graceful_shutdown=60)
        jobs.stopping = lambda: server.should_exit
        print(f"{address(server_socket, host)}  (Ctrl-C ends it)", flush=True)
        server.run(sockets=[server_socket])
