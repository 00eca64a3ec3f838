"""A language model behind an OpenAI-compatible endpoint: rate-limited, each answer stored before it is used."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from deni.chat.answers import Answer, Answers
from deni.chat.guard import LEAST_SECONDS, MOST_TIMEOUTS, Clock, Refused, check_address, check_response, without
from deni.errors import InputError, short

T = TypeVar("T")
R = TypeVar("R")
OPENAI = "https://api.openai.com"
LONGEST_WAIT = 120  # seconds that the client waits between two attempts
GRACE = 10  # seconds for what is under way after Ctrl-C
AGAIN = "answers so far are kept: give the same command again"
# What to do about a refusal that asking again does not cure.
CURES = {
    401: "set the environment variable OPENAI_API_KEY to a key of this server",
    403: "the key in OPENAI_API_KEY may not use this model or server",
    404: "check --llm-model and --base-url, which ends in /v1 for most servers",
    429: f"{AGAIN} later, with a lower --requests-per-minute or --concurrency, or look at the account's quota",
}


class Chat:
    """Asks a model, several requests at once.

    The client of `openai` asks again after 408, 409, 429, 5xx, time-outs and lost connections: after the seconds of
    `Retry-After` up to two minutes, else after 0.5 s, 1 s, ... 8 s. Other refusals are errors at once, and so are
    redirects to another host, and answers that are endless (see `deni.chat.guard`).

    Args:
        model: as the server names it.
        base_url: of the server; None is that of the client, from OPENAI_BASE_URL.
        temperature: None leaves that of the server.
        answers: the store of answers.
        max_retries: how often one request is sent again.
        timeout: seconds until an answer begins or goes on; the whole of it may take ten times as long.
        requests_per_minute: limit that includes retries; None for no limit.
        concurrency: requests under way at one time.
        answer_format: the `response_format` of each request, such as a JSON schema; None for none.

    Attributes:
        seed: another one asks anew.
        sent: requests on the wire, those sent again among them.
        spent: the answers that came from the server, not from the store.

    Raises:
        InputError: the package `openai` is missing, or a key for OpenAI's own server is; an address with a secret.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None,
        temperature: float | None,
        answers: Answers,
        *,
        max_retries: int,
        timeout: float,
        requests_per_minute: float | None,
        concurrency: int,
        answer_format: Mapping[str, Any] | None = None,
    ) -> None:
        self.answers = answers
        self.concurrency = concurrency
        self.seed = 0
        self.sent = 0
        self.spent: list[Answer] = []
        self._settings: dict[str, Any] = {"base_url": base_url, "max_retries": max_retries, "timeout": timeout}
        self._asked: dict[str, Any] = {"model": model}
        if temperature is not None:
            self._asked["temperature"] = temperature
        if answer_format is not None:
            self._asked["response_format"] = answer_format
        self._gap = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0  # when the next request may be sent
        self._stopped = False  # nothing more is sent
        self._places: asyncio.Semaphore
        self._locks: dict[str, asyncio.Lock]
        self._under_way: set[asyncio.Task[Answer]]
        self._on_wire: set[Any]  # and not waiting for a turn, or to be sent again
        self._clock = Clock(max(MOST_TIMEOUTS * timeout, LEAST_SECONDS))
        self._last_hope = "--prompt" if answer_format is None else "--no-structured, where it knows no JSON schemas"
        self._key = ""
        check_address(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI)
        self.base_url = str(self._client().base_url)

    def known(self, question: str, sample: int) -> Answer | None:
        """The answer in the store, if there is one."""
        return self.answers.get(self._request(question, sample))

    def map(self, function: Callable[[T], Coroutine[Any, Any, R]], items: Sequence[T]) -> list[R]:
        """The results of a coroutine function that calls `ask`, in the order of the items.

        After an error, or Ctrl-C, nothing more is sent; what is under way has some seconds to come in, for it is paid.
        """
        from anyio.from_thread import start_blocking_portal

        async def each() -> list[R]:
            self._places, self._locks = asyncio.Semaphore(self.concurrency), {}
            self._under_way, self._on_wire, self._stopped = set(), set(), False
            async with self._client() as self._open:
                try:
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(function(item)) for item in items]
                except ExceptionGroup as errors:
                    raise errors.exceptions[0] from errors.exceptions[0].__cause__
                finally:
                    self._stopped = True
                    await self._come_in()
            return [task.result() for task in tasks]

        # A loop in its own thread: in a notebook this thread has one already.
        with start_blocking_portal() as portal:
            return portal.call(each)

    async def ask(self, question: str, sample: int) -> Answer:
        """The answer to a question, from the store or else from the server.

        Args:
            sample: tells the answers to one question apart.
        """
        request = self._request(question, sample)
        # The lock: of two equal requests at one time the second finds the answer of the first.
        async with self._locks.setdefault(request, asyncio.Lock()), self._places:
            answer = self.answers.get(request)
            if answer is None:
                task = asyncio.create_task(self._stored(request, question))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                answer = await asyncio.shield(task)
        return answer

    async def _stored(self, request: str, question: str) -> Answer:
        try:
            answer = await self._from_server(question)
        except InputError:
            self._stopped = True
            raise
        self.spent.append(answer)
        return self.answers.put(request, answer)

    async def _come_in(self) -> None:
        """Wait for what is on the wire, but not for long, and for nothing else."""
        import anyio

        for task in self._under_way - self._on_wire:
            task.cancel()
        if self._under_way & self._on_wire:
            print(f"waiting up to {GRACE} s for requests under way; Ctrl-C again gives them up", file=sys.stderr)
        with anyio.move_on_after(GRACE, shield=True):
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _request(self, question: str, sample: int) -> str:
        """Everything that decides an answer, as one string."""
        decides = {"base_url": self.base_url, **self._body(question), "seed": self.seed, "sample": sample}
        return json.dumps(decides, ensure_ascii=False, sort_keys=True)

    def _body(self, question: str) -> dict[str, Any]:
        return {**self._asked, "messages": [{"role": "user", "content": question}]}

    async def _from_server(self, question: str) -> Answer:
        import openai

        try:
            async with self._clock.around():
                raw = await self._open.chat.completions.with_raw_response.create(**self._body(question))
        except Refused as error:
            raise InputError(f"{self.base_url} {error}") from None
        except TimeoutError:
            raise InputError(
                f"{self.base_url}: an answer has not ended after {self._clock.seconds:g} s: check --base-url and "
                f"--timeout; {AGAIN}"
            ) from None
        except openai.APIStatusError as error:  # not as its cause: the server may have repeated the key
            raise InputError(without(self._key, self._refusal(error, question))) from None
        except openai.APIConnectionError as error:
            why = "no answer in time" if isinstance(error, openai.APITimeoutError) else str(error.__cause__ or error)
            retries = f"after {self._settings['max_retries']} retries"
            raise InputError(
                f"{self.base_url}: {why}, {retries}: check --base-url, the network and --timeout; {AGAIN}"
            ) from error
        finally:
            self._clock.forget()
        return self._answer(without(self._key, raw.http_response.text))

    def _answer(self, body: str) -> Answer:
        """The answer in a completion, whose form the client does not check."""
        try:
            completion = json.loads(body)
        except (ValueError, RecursionError):
            completion = None
        if not isinstance(_at(completion, "choices"), list):
            hint = "check --base-url, which ends in /v1 for most servers"
            raise InputError(f"{self.base_url}: no chat completion but {short(body)}: {hint}")
        content = _at(completion, "choices", 0, "message", "content")
        text = (
            content.encode(errors="replace").decode() if isinstance(content, str) else ""
        )  # half a surrogate pair: "?"
        counts = (_at(completion, "usage", name) for name in ("prompt_tokens", "completion_tokens"))
        return Answer(text, *(count if _is_count(count) else None for count in counts))

    def _refusal(self, error: Any, question: str) -> str:
        status = error.status_code
        body = error.body if isinstance(error.body, dict) else {}
        detail = short(str(body.get("message") or error.message), 200)
        wait = error.response.headers.get("retry-after")
        detail += f", Retry-After: {wait}" if wait else ""
        if status >= 500:
            return f"{self.base_url}: refused with {status}, {detail}: {AGAIN} later"
        asked = f"the question was {short(question)}; check --llm-model, --temperature and {self._last_hope}"
        return f"{self.base_url}: refused with {status}, {detail}: {CURES.get(status, asked)}"

    def _client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise InputError(f'llm needs the package openai ({error}): pip install "deni[llm]"') from error
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key:
            address = self._settings["base_url"] or os.environ.get("OPENAI_BASE_URL") or OPENAI
            if address.startswith(OPENAI):
                raise InputError(
                    f"{OPENAI} needs a key: set the environment variable OPENAI_API_KEY, or name another server "
                    "with --base-url"
                )
            key = "none"  # local servers need none, but the client does
        if not key.isascii():
            raise InputError("the environment variable OPENAI_API_KEY has characters that no key has: set it anew")
        self._key = key
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._out], "response": [self._back]}
        http = openai.DefaultAsyncHttpxClient(event_hooks=hooks, headers={"Accept-Encoding": "identity"})
        return openai.AsyncOpenAI(api_key=key, http_client=http, **self._settings)

    async def _out(self, _: Any) -> None:
        """Wait for this request's turn; the client calls it before each one, those sent again among them."""
        self._clock.stop()
        now = time.monotonic()
        turn = max(now, self._next)
        self._next = turn + self._gap
        if turn > now:
            await asyncio.sleep(turn - now)
        if self._stopped:
            raise asyncio.CancelledError
        self._on_wire.add(asyncio.current_task())
        self.sent += 1
        self._clock.start()

    async def _back(self, response: Any) -> None:
        check_response(response)
        if response.is_error:
            self._on_wire.discard(asyncio.current_task())
            self._clock.start(LONGEST_WAIT)


def _is_count(value: Any) -> bool:
    """Whether this is a number of tokens, and no other thing that a server may send."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _at(value: Any, *path: str | int) -> Any:
    """What is there in JSON, or None.

    >>> _at({"a": [{"b": 1}]}, "a", 0, "b"), _at({"a": []}, "a", 0, "b")
    (1, None)
    """
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value
