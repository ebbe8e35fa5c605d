"""The HTTP interface: POST /v1/classify, and the endpoints for operators."""

from __future__ import annotations

import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline import __version__
from pipeline.console import log
from pipeline.edge.errors import BundleError
from pipeline.edge.labels import label_hash
from pipeline.serving.engine import Engine, Full
from pipeline.serving.limits import KINDS
from pipeline.serving.meters import Meters
from pipeline.serving.reading import FORM, Reader, Refusal
from pipeline.serving.schemas import About, Answers, Photo, Problem, State

REQUEST_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
WHY = {
    400: "the client went away, or the request is not HTTP",
    401: "no token, or a wrong one",
    408: "the body came too slowly",
    409: "the photos are meant for another label space",
    413: "the body is too large",
    415: "neither a photo nor a form of photos",
    422: "a parameter, the form, or its number of photos is not as it must be",
    429: "the queue is full; Retry-After tells when to ask again",
    500: "the network failed",
}


def application(engine: Engine, experiment: str, token: str | None) -> FastAPI:
    """The HTTP application of an engine; token: required of clients; none: open to all."""
    limits, reader, meters = engine.limits, Reader(engine.limits), Meters(engine)
    labels = list(engine.cascade.stages[-1].labels)
    space = label_hash(labels)
    app = FastAPI(title="Ommatidia", version=__version__, docs_url=None, redoc_url=None)
    allowed = Depends(_allowed(token))

    async def meant(
        label_space: Annotated[
            str, Header(pattern="^([0-9a-f]{12})?$", description="answer only if this is the server's label space")
        ] = "",
    ) -> None:
        if label_space and label_space != space:
            raise Refusal(409, f"the photos are for the label space {label_space}; {experiment} here has {space}")

    @app.post(
        "/v1/classify",
        dependencies=[allowed, Depends(meant)],
        responses=_problems(*WHY),
        openapi_extra={"requestBody": _body(limits.photos)},
    )
    async def classify(request: Request, topk: Annotated[int, Query(ge=1, le=1000)] = 5) -> Answers:
        """Classify one photo (the body) or several (a form); a photo that cannot be read says why."""
        async with reader.photos(request) as photos:
            try:
                answers = await engine.classify([data for _, data in photos], topk)
            except Full as full:
                raise Refusal(429, str(full), {"Retry-After": str(full.seconds)}) from full
            meters.count(answers, sum(len(data) for _, data in photos))
            told = [Photo.of(*photo, answer) for photo, answer in zip(photos, answers, strict=True)]
        return Answers(request_id=request.state.id, label_space=space, photos=told)

    @app.get("/v1/about", dependencies=[allowed], responses=_problems(401))
    async def about() -> About:
        """The label space, the stages and the limits of this server."""
        return About(
            experiment=experiment,
            label_space=space,
            labels=labels,
            stages=[stage.name for stage in engine.cascade.stages],
            max_photos=limits.photos,
            max_body_bytes=reader.most,
            max_pixels=engine.max_pixels,
        )

    _operations(app, engine, meters)
    _tell_problems(app)
    return app


def _allowed(token: str | None) -> Callable[..., Awaitable[None]]:
    async def allowed(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        if token and not hmac.compare_digest((given.credentials if given else "").encode(), token.encode()):
            raise Refusal(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    return allowed


def _operations(app: FastAPI, engine: Engine, meters: Meters) -> None:
    """Endpoints for operators."""

    @app.get("/healthz")
    async def healthz() -> State:
        """The process is alive."""
        return State(status="ok")

    @app.get("/readyz", responses={503: {"model": State, "description": "the queue is full"}})
    async def readyz(response: Response) -> State:
        """The queue has room for a photo."""
        full = engine.admitted >= engine.limits.queue
        response.status_code = 503 if full else 200
        return State(status="full" if full else "ok")

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)

    app.add_middleware(Identified, meters=meters)


class Identified:
    """Gives every request an id (the client's, if it is valid), counts and logs it."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app, self.meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given, start, begun = Headers(scope=scope).get("x-request-id", ""), time.perf_counter(), False
        name = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = name

        async def tell(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)["X-Request-ID"] = name
                seconds = time.perf_counter() - start
                self.meters.request(message["status"], seconds)
                log.debug("%s %s %d %.1f ms %s", scope["method"], scope["path"], message["status"], seconds * 1e3, name)
            await send(message)

        try:
            await self.app(scope, receive, tell)
        except Exception:  # of any kind: it becomes a Problem for the client, and the server continues
            log.exception("%s: not answered", name)
            if begun:
                raise
            told = Problem(error="the server failed; its log says why", request_id=name)
            await JSONResponse(told.model_dump(), 500)(scope, receive, tell)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": WHY[status]} for status in statuses}


def _body(photos: int) -> dict[str, Any]:
    binary = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": binary, "minItems": 1, "maxItems": photos}
    form = {"type": "object", "properties": {"photos": files}, "required": ["photos"], "additionalProperties": False}
    content = {FORM: {"schema": form}, **{kind: {"schema": binary} for kind in KINDS}}
    return {"required": True, "content": content}


def _tell_problems(app: FastAPI) -> None:
    """Turns every error into a Problem."""

    def problem(request: Request, status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
        told = Problem(error=error, request_id=request.state.id).model_dump()
        return JSONResponse(told, status, headers)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return problem(request, error.status, str(error), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return problem(request, 422, told)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        return problem(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(BundleError)
    async def broken(request: Request, error: BundleError) -> JSONResponse:
        log.error("%s: %s", request.state.id, error)
        return problem(request, 500, str(error))
