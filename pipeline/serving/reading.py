"""Read the photos of a request, from a raw body or a form, within its limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pipeline.serving.limits import KINDS, Limits

FORM = "multipart/form-data"
SLOWEST = 10_000  # bytes per second, after the timeout


class Refusal(Exception):
    """An answer other than 200: status, reason, headers."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.headers = status, headers or {}


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 40  # bytes; never spills to disk, as the body is limited already
    whole = False  # its closing boundary was read

    def on_end(self) -> None:
        self.whole = True


class Reader:
    """Reads bodies; `held`: bytes that are read and not yet answered, limited so that they cannot fill the memory."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.held, self.most = limits, 0, int(limits.body_mb * 1e6)

    @asynccontextmanager
    async def photos(self, request: Request) -> AsyncIterator[list[tuple[str, bytes]]]:
        """(name, bytes) of each photo; a Refusal with 400, 408, 413, 415, 422 or 429 when they cannot be taken."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in (FORM, *KINDS):
            raise Refusal(415, f"the body must be {FORM} or one of {', '.join(KINDS)}, not {kind!r}")
        body = bytearray()
        try:
            await self._read(body, request)
            yield await self._parts(request, bytes(body)) if kind == FORM else [("0", bytes(body))]
        finally:
            self.held -= len(body)

    async def _read(self, body: bytearray, request: Request) -> None:
        try:
            async with asyncio.timeout(self.limits.timeout) as limit:
                await self._fill(body, request, limit)
        except TimeoutError as error:
            allowed = f"{self.limits.timeout:g} s and 1 s for each {SLOWEST // 1000} kB of it"
            raise Refusal(408, f"the body did not come within {allowed}") from error
        except ClientDisconnect as error:
            raise Refusal(400, "the client went away") from error

    async def _fill(self, body: bytearray, request: Request, limit: asyncio.Timeout) -> None:
        start = limit.when() or 0.0
        told = request.headers.get("content-length", "")
        length = int(told) if told.isdecimal() else 0
        async for chunk in request.stream():
            if max(length, len(body) + len(chunk)) > self.most:
                raise Refusal(413, f"the body is larger than {self.most} bytes; send fewer or smaller photos")
            if self.held + len(chunk) > self.limits.held_mb * 1e6:
                raise Refusal(429, "too much is being sent at once; ask again in 1 s", {"Retry-After": "1"})
            body += chunk
            self.held += len(chunk)
            limit.reschedule(start + len(body) / SLOWEST)

    async def _parts(self, request: Request, body: bytes) -> list[tuple[str, bytes]]:
        async def stream() -> AsyncIterator[bytes]:
            yield body

        parser = _InMemory(request.headers, stream(), max_files=self.limits.photos, max_fields=0)  # type: ignore[arg-type]
        try:
            form = await parser.parse()
            files = _files(form.getlist("photos"))
            "".join(file.filename or "" for file in files).encode()  # the answer repeats them
        except MultiPartException as error:
            raise Refusal(422, f"the form cannot be taken: {error.message}") from error
        except UnicodeError as error:
            raise Refusal(422, f"the names in the form are no text in its charset: {error}") from error
        if not parser.whole:
            raise Refusal(422, "the form breaks off before its closing boundary; send it again")
        photos = [(part.filename or str(i), await part.read()) for i, part in enumerate(files)]
        if not photos or len(photos) < len(form.multi_items()):
            raise Refusal(422, 'the form must hold files named "photos", at least one, and nothing else')
        return photos


def _files(parts: list[UploadFile | str]) -> list[UploadFile]:
    return [part for part in parts if isinstance(part, UploadFile)]
