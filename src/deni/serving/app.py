"""The application: paths, and what happens to a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from deni._version import __version__
from deni.artifact.classifier import words_of
from deni.data import fed
from deni.errors import ArtifactError, InputError, SettingError, short
from deni.serving.batching import Batcher, BusyError, StoppedError
from deni.serving.gate import Gate, problem
from deni.serving.limits import Limits
from deni.serving.messages import Health, Problem, as_texts, messages
from deni.serving.metrics import Measured, Metrics
from deni.serving.page import docs_page
from deni.tasks import TASKS

if TYPE_CHECKING:
    from deni.artifact import Classifier
    from deni.measures import Selection

LOG = logging.getLogger("deni.serving")
GUARDED = ("/predict", "/metrics")  # what needs the token
PATHS = (*GUARDED, "/health", "/docs", "/openapi.json")
REFUSALS = {
    400: "A body that cannot be parsed.",
    401: "Without the token.",
    413: "More bytes or tokens than are taken.",
    422: "Not a request as described, or a text that the model cannot take.",
    500: "A fault of the server.",
    503: "Too many texts wait, or the server stops: ask again after the seconds of Retry-After.",
}


class _TooLongError(InputError):
    """More tokens than a request may have."""


def create_app(
    classifier: Classifier,
    *,
    accuracy: float | Selection | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    batch_size: int = 32,
) -> FastAPI:
    """An ASGI application that predicts with a model; `deni serve` runs it with uvicorn.

    Args:
        classifier: see `deni.load`. The application alone may use it.
        accuracy: answer only where this accuracy is supported, see `deni.artifact.Classifier.selection`.
        limits: how much is taken; None for the usual ones.
        token: what clients must show for `/predict` and `/metrics`; None for none.
        batch_size: texts that are computed at once.

    Attributes:
        state.stopping: set to True, answers end their connections, and `/health` says so.
    """
    if batch_size < 1:
        raise SettingError(f"batch_size must be at least 1, not {short(batch_size)}")
    limits, task, pairs = limits or Limits(), classifier.task, classifier.pairs
    selection = classifier.selection(accuracy) if isinstance(accuracy, float) else accuracy
    metrics = Metrics(task, classifier.info["runs"] * classifier.info["members"], PATHS)
    said = messages(task, pairs, limits.max_texts, selection is not None)

    def check(texts: list[Any]) -> None:
        for at, text in enumerate(texts):
            if why := classifier.why_unfit(text):
                raise InputError(f"text {at} is {short(text)}: {why}")
        tokens = _count_tokens(classifier, texts)
        if tokens > limits.max_tokens:
            raise _TooLongError(f"the texts have {tokens} tokens, {limits.max_tokens} are taken: send fewer at a time")
        metrics.tokens.inc(tokens)

    def predict_batch(texts: list[Any]) -> list[dict[str, Any]]:
        return classifier(texts, batch_size, selection)

    batches = Batcher(predict_batch, check, batch_size, limits.max_waiting, metrics.batches.observe)
    metrics.waiting.set_function(lambda: batches.waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batches.stop)

    about = (
        f"Predictions of a model trained with deni: {TASKS[task].help}. Its members vote; a request is {said.expected}."
    )
    app = FastAPI(
        title="deni serve",
        version=__version__,
        description=about,
        docs_url=None,  # FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.stopping = False
    # The last one added is the first one asked.
    app.add_middleware(
        Gate, guarded=GUARDED, token=token, max_body=limits.max_body, stopping=lambda: app.state.stopping
    )
    app.add_middleware(Measured, metrics=metrics)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _misread(said.expected))

    async def predict(question: BaseModel) -> Response:
        texts = as_texts(question.texts, pairs)  # type: ignore[attr-defined]
        try:
            predictions = await asyncio.wrap_future(batches.submit(texts))
        except (BusyError, StoppedError) as error:
            why = "too many texts wait" if isinstance(error, BusyError) else "the server stops"
            refusal = problem(503, f"{why}: ask again")
            refusal.headers["retry-after"] = "1"
            return refusal
        except ArtifactError as error:
            LOG.error("%s", error)
            return problem(500, "the model is damaged, the server's log says how")
        except InputError as error:
            return problem(413 if isinstance(error, _TooLongError) else 422, str(error))
        except Exception:
            LOG.exception("the model cannot compute these texts")
            return problem(500, "the model cannot compute these texts, the server's log says why")
        metrics.texts.inc(len(texts))
        metrics.abstained.inc(sum(each.get("abstained", False) for each in predictions))
        return JSONResponse({"predictions": predictions})

    predict.__annotations__["question"] = said.asked
    app.post(
        "/predict",
        response_model=said.answered,
        responses=_responses(*(REFUSALS if token is not None else [each for each in REFUSALS if each != 401])),
        description=f"Predict one text or many. The body is {said.expected}.",
        summary="Predict",
    )(predict)

    @app.get("/health", response_model=Health, responses={503: {"model": Health, "description": "The server stops."}})
    async def health() -> Response:
        """Whether the server answers; it needs no token."""
        if app.state.stopping:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ok"})

    @app.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"description": "The counters.", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **_responses(*([] if token is None else [401])),
        },
    )
    async def count() -> Response:
        """Counters in Prometheus' form."""
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        return HTMLResponse(
            docs_page(app.openapi(), str(request.base_url), said.example, token is not None),
            headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app, token is not None)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
    return app


def _count_tokens(classifier: Classifier, texts: list[Any]) -> int:
    given: list[Any] = [words_of(text) for text in texts] if TASKS[classifier.task].of_words else texts
    tokens = classifier.tokenizer(**fed(given, classifier.task), truncation=False, verbose=False)
    return sum(map(len, tokens["input_ids"]))


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": REFUSALS[status]} for status in statuses}


def _description(app: FastAPI, token: bool) -> dict[str, Any]:
    """The OpenAPI description, with the token."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    if token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path in GUARDED:
            for operation in found["paths"][path].values():
                operation["security"] = [{"token": []}]
    return found


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = problem(error.status_code, error.detail)
    refusal.headers.update(error.headers or {})
    return refusal


def _misread(expected: str) -> Any:
    """Answers a body that is not a request, without what was in it."""

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # Of one that is neither a text nor a list there is an error for each; the one about the value says most.
        first = min(error.errors(), key=lambda each: (each["type"].endswith("_type"), -len(each["loc"])))
        if first["type"] == "json_invalid":
            return problem(422, f"the body is not JSON: send {expected}")
        why = "a text is blank" if first["type"] == "string_pattern_mismatch" else first["msg"]
        return problem(422, f"{why}: send {expected}")

    return refused
