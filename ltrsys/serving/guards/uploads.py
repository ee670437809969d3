"""Bodies of requests → images, in memory alone and within limits. What comes is counted while it comes."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ltrsys.serving.guards.limits import Limits, Refusal, Share

MULTIPART = "multipart/form-data"
RAW = "application/octet-stream"
FIELDS = 8
"""Of a form, beside its files: they are passed over."""
FIELD_BYTES = 4096


@dataclass(frozen=True)
class Upload:
    """An image file that a client sent."""

    name: str
    """What the client calls it: for the answer alone, never a path."""
    data: bytes


class _ParserInMemory(MultiPartParser):
    """Writes no file: what it holds is bounded by the stream that it reads."""

    spool_max_size = 0
    """For `SpooledTemporaryFile`: never."""


async def read_uploads(request: Request, limits: Limits, memory: Share) -> list[Upload]:
    """Read the images of a request: the files of a form, or the whole body.

    Args:
        request: Its body has not been read.
        limits: Bytes, files and seconds.
        memory: Takes what is read.

    Raises:
        Refusal: 400 for a damaged form or too many files, 408, 413, 415 for a body of another kind, 422 for a form
            without files, 503 where all memory for bodies is taken.
        starlette.requests.ClientDisconnect: Where the client has gone.
    """
    kind = request.headers.get("content-type", RAW).partition(";")[0].strip().lower()
    if kind not in (MULTIPART, RAW) and not kind.startswith("image/"):
        raise Refusal(415, f"Send an image as {MULTIPART}, image/* or {RAW}.")
    if int(request.headers.get("content-length", 0)) > limits.body_bytes:  # a whole number, or uvicorn refuses it
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.upload_seconds):
            if kind == MULTIPART:
                return await _files(request, limits, memory)
            data = b"".join([chunk async for chunk in _counted(request, limits, memory)])
    except TimeoutError:
        raise Refusal(408, f"The upload took longer than {limits.upload_seconds:g} seconds.") from None
    return [Upload("image 0", data)]


async def _counted(request: Request, limits: Limits, memory: Share) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, up to the limit."""
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.body_bytes:
            raise _too_large(limits)
        memory.take(len(chunk))
        yield chunk


async def _files(request: Request, limits: Limits, memory: Share) -> list[Upload]:
    parser = _ParserInMemory(
        request.headers,
        _counted(request, limits, memory),
        max_files=limits.files,
        max_fields=FIELDS,
        max_part_size=FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal(400, f"The form cannot be read: {error.message}") from None
    try:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not files:
            raise Refusal(422, "There is no file in this form. Send each image as a part with a filename.")
        return [Upload(file.filename or f"image {place}", await file.read()) for place, file in enumerate(files)]
    finally:
        await form.close()


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"A request has at most {limits.body_bytes:,} bytes. Send fewer images, or smaller ones.")
