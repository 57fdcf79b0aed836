"""The server of the page for raters: each has an address, which shows one picture after another and takes answers."""

import contextlib
import functools
import json
import socket
import sys
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rating.manifest import ANSWERS, Study, check_pictures, read_study, showings
from rating.store import Store
from utils import UserError
from web_server import address, file_reply, listen, reply, uvicorn_server

PAUSE_EVERY = 60  # number of answers between breaks
LARGEST_ANSWER = 1000  # bytes
HIGHEST = {kind: len(answers) for kind, answers in ANSWERS.items()}  # the highest answer of each kind


class Session:
    """One rater's way through a study: a step is the number of a showing, from 0 on, examples included."""

    def __init__(self, study: Study, store: Store, rater: int) -> None:
        self.study, self.store, self.rater = study, store, rater
        self.showings = showings(study, rater)

    def state(self) -> dict[str, Any]:
        """Return what the page shows next. It tells nothing about the items but their number."""
        step, examples, steps = self.store.count(self.rater), len(self.study.examples), len(self.showings)
        cards = {0: "begin", steps: "end"}  # texts between two showings
        if step >= examples and (step - examples) % PAUSE_EVERY == 0:
            cards = {step: "pause", examples: "examples over"} | cards
        answer = self.showings[step].item.answer if step < examples else None
        if answer and self.showings[step].flipped:
            answer = HIGHEST[self.study.kind] + 1 - answer
        counts = {"step": step, "steps": steps, "examples": examples}
        return {"kind": self.study.kind} | counts | {"answer": answer, "card": cards.get(step)}

    def picture(self, step: int, place: int) -> Path:
        """Return the path of a picture of `step`. Raises HTTPException beyond the next step, which is loaded ahead."""
        if step > min(self.store.count(self.rater) + 1, len(self.showings) - 1):
            raise HTTPException(404, "not shown yet")
        showing = self.showings[step]
        shown = showing.item.shown[::-1] if showing.flipped else showing.item.shown
        if place >= len(shown):
            raise HTTPException(404, "no such picture")
        return self.study.path(shown[place])

    def answer(self, step: int, value: int, seen: dict[str, Any]) -> None:
        """Store an answer. Raises HTTPException if it is not the step's turn, or it has another answer already."""
        due = self.store.count(self.rater)
        if step > due or step >= len(self.showings):
            raise HTTPException(409, f"step {step} has not been shown; the next one is {due}")
        item, repeat, flipped = self.showings[step]
        if flipped:
            value = HIGHEST[self.study.kind] + 1 - value
        if step < len(self.study.examples) and value != item.answer:
            raise HTTPException(409, "an example, whose answer is on the page")
        if self.store.add(self.rater, item.name, repeat, value, seen) != value:
            raise HTTPException(409, f"step {step} has another answer already, which stays")


def read_answer(body: bytes, kind: str) -> tuple[int, int, dict[str, Any]]:
    """Parse what the page sent into (step, value, seen). Raises HTTPException if it has another form."""
    try:
        sent = json.loads(body)
        step, value, screen, room = (sent[name] for name in ("step", "value", "screen", "room"))
        sizes = {"screen": "{}x{}".format(*screen), "room": "{}x{}".format(*room)}
        whole = [step, value, *screen, *room]
        numbers = [*whole, sent["seconds"], sent["pixel_ratio"]]
        if [type(number) for number in whole] != [int] * 6 or {type(number) for number in numbers} - {int, float}:
            raise ValueError("another type")
        if not all(0 <= number < 1e6 for number in numbers[1:]) or step < 0 or not 1 <= value <= HIGHEST[kind]:
            raise ValueError("a number out of range")
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise HTTPException(422, "not an answer of this page; reload it") from error
    return step, value, sizes | {"seconds": round(sent["seconds"], 3), "pixel_ratio": sent["pixel_ratio"]}


def application(study: Study, store: Store) -> Starlette:
    """Return the Starlette application that serves a study."""

    @functools.cache
    def session_of(rater: int) -> Session:
        return Session(study, store, rater)

    def session(request: Request) -> Session:
        rater = store.find_rater(request.path_params["token"])
        if rater is None:
            raise HTTPException(404, "no such address; ask whoever invited you for yours")
        return session_of(rater)

    def asset(name: str) -> Response:
        return file_reply(Path(__file__).with_name(name))

    def page(request: Request) -> Response:
        session(request)
        return asset("page.html")

    def state(request: Request) -> Response:
        return reply(json.dumps(session(request).state()), "application/json")

    def picture(request: Request) -> Response:
        path = session(request).picture(request.path_params["step"], request.path_params["place"])
        return file_reply(path, cache="private, max-age=86400, immutable")

    async def answer(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_ANSWER:
                raise HTTPException(413, "too long for an answer")
        return await run_in_threadpool(take, request, body)

    def take(request: Request, body: bytes) -> Response:
        session(request).answer(*read_answer(body, study.kind))
        return state(request)

    def refused(request: Request, error: Any) -> Response:
        return reply(f"{error.detail}\n", status=error.status_code)

    def broken(request: Request, error: Exception) -> Response:
        print(f"study.py: {error}", file=sys.stderr, flush=True)  # raters should not see it, since it names files
        return reply("the server cannot store ratings at the moment; this page tries again until it can\n", status=507)

    routes = [
        Route("/page.js", lambda request: asset("page.js")),
        Route("/page.css", lambda request: asset("page.css")),
        Route("/r/{token}", page),
        Route("/r/{token}/state", state),
        Route("/r/{token}/picture/{step:int}/{place:int}", picture),
        Route("/r/{token}/answer", answer, methods=["POST"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused, UserError: broken})


def serve(folder: str | Path, host: str, port: int, raters: int) -> int:
    """Serve the study in `folder` until Ctrl-C, to at least `raters` raters; return exit status 0.

    Raises UserError if the study or the address cannot be used.
    """
    study = read_study(folder)
    check_pictures(study)
    with listen(host, port) as server_socket:
        store = Store(study.database)
        store.add_raters(raters)
        # A browser cannot open the addresses that mean all interfaces.
        root = address(server_socket, socket.gethostname() if host in ("0.0.0.0", "::") else host)
        for number, token, count in store.raters():
            print(f"rater {number}: {root}/r/{token}  {count} of {len(showings(study, number))}", flush=True)
        print("Each address is for one person and continues where it was left. Ctrl-C ends the server.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn_server(application(study, store)).run(sockets=[server_socket])
        store.close()
    return 0
