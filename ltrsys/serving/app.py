"""The application: what is answered under which address."""

from collections.abc import Awaitable, Callable, Collection
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from ltrsys import __version__
from ltrsys.data.index.records import SplitName
from ltrsys.prediction.answers import Wanted
from ltrsys.serving.guards.headers import Headers
from ltrsys.serving.guards.limits import Limits, Refusal
from ltrsys.serving.guards.uploads import MULTIPART, RAW
from ltrsys.serving.schemas import (
    ClassesResponse,
    ErrorResponse,
    HealthResponse,
    PredictResponse,
    QueueInfo,
)
from ltrsys.serving.service import Service

MOST_CLASSES = 100
"""Of an answer."""
MOST_SIMILAR = 12
CLIENT_CLOSED_REQUEST = 499
"""For a log: nobody is there to read it."""
PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The files of the page and their types, by path."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def create_app(service: Service, *, hosts: Collection[str] | None = None) -> FastAPI:
    """Return the application.

    Args:
        service: What answers; it has been started.
        hosts: Names under which the server may be asked; None for any.
    """
    app = FastAPI(
        title="ltrsys",
        summary="Names for photographs, from a classifier that was trained on a long-tailed set of images.",
        version=__version__,
        docs_url=None,  # its page comes from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Headers, hosts=hosts)
    _answer_errors(app)
    _add_predict(app, service)
    _add_reading(app, service)
    _add_page(app)
    return app


def _body(limits: Limits) -> dict[str, Any]:
    """Return the documentation of what is uploaded."""
    images = {"type": "array", "items": _BINARY["schema"], "minItems": 1, "maxItems": limits.files}
    form = {"schema": {"type": "object", "required": ["files"], "properties": {"files": images}}}
    return {
        "required": True,
        "description": "One image file as it is, or a form with one or more.",
        "content": {MULTIPART: form, "image/jpeg": _BINARY, "image/png": _BINARY, RAW: _BINARY},
    }


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI takes for the documentation of errors."""
    why = {
        400: "A form that cannot be read, or with too many files.",
        404: "There is no such thing.",
        408: "The upload took too long.",
        413: "More bytes than a request may have.",
        415: "The body is of another kind.",
        422: "No image that can be read, or a parameter out of its range.",
        500: "The image could not be inferred.",
        503: "Too much waits already; `Retry-After` says for how long to wait.",
        504: "There was no answer in time.",
    }
    return {status: {"model": ErrorResponse, "description": why[status]} for status in statuses}


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refuse(_: Request, refusal: Refusal) -> Response:
        after = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
        return JSONResponse({"detail": refusal.detail}, refusal.status, headers=after)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameter(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return JSONResponse({"detail": f"`{first['loc'][-1]}`: {first['msg']}"}, 422)

    @app.exception_handler(ClientDisconnect)
    async def drop(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


def _add_predict(app: FastAPI, service: Service) -> None:
    @app.post(
        "/predict",
        summary="Name what is in images.",
        openapi_extra={"requestBody": _body(service.limits)},
        responses=_errors(400, 404, 408, 413, 415, 422, 500, 503, 504),
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=MOST_CLASSES, description="How many classes to name.")] = 5,
        min_precision: Annotated[
            float | None,
            Query(
                gt=0,
                lt=1,
                description="How many of the answers should be right, such as 0.95: others have the status `not sure`.",
            ),
        ] = None,
        classifier: Annotated[
            str | None, Query(max_length=100, description="One of those that `/health` lists; the first if not given.")
        ] = None,
        similar: Annotated[
            int, Query(ge=0, le=MOST_SIMILAR, description="How many similar training images of each class to show.")
        ] = 0,
    ) -> PredictResponse:
        """Where one of several images cannot be read, its `problem` says why, and the others are named."""
        return await service.predict(request, classifier, Wanted(top=top, min_precision=min_precision), similar)


def _add_reading(app: FastAPI, service: Service) -> None:
    served = service.served
    classes = ClassesResponse(classes=served.classes).model_dump_json()  # thousands, always the same

    @app.get("/health", summary="Whether the server is ready.", responses={503: {"model": HealthResponse}})
    async def health(response: Response) -> HealthResponse:
        if not service.is_ready:
            response.status_code = 503
        return HealthResponse(
            ready=service.is_ready,
            version=__version__,
            model=served.model,
            classifier=served.default.classifier,
            classifiers=list(served.predictors),
            classes=len(served.classes),
            thumbnails=bool(served.neighbours),
            max_bytes=service.limits.body_bytes,
            queue=QueueInfo(images=service.queue.used, limit=service.queue.limit),
        )

    @app.get("/classes", summary="All classes.", response_model=ClassesResponse)
    async def list_classes() -> Response:
        return Response(classes, media_type="application/json")

    @app.get(
        "/thumbnails/{split}/{sample}",
        summary="A small picture of an image in the shards.",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": _BINARY}}, **_errors(404, 422)},
    )
    async def thumbnail(split: Annotated[SplitName, Path()], sample: Annotated[int, Path(ge=0)]) -> Response:
        return Response(await service.thumbnail(split, sample), media_type="image/jpeg")


def _add_page(app: FastAPI) -> None:
    for path, (name, kind) in PAGE.items():
        app.add_api_route(f"/{path}", _file(name, kind), include_in_schema=False)


def _file(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (files("ltrsys.serving") / "static" / name).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer
