"""A server of chat completions: by default it answers, and it can be told to do otherwise."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROMPT = "{n} of {label}: {text}"  # what `paraphrases` reads


def paraphrases(question: str) -> list[str]:
    """n texts that depend on the question alone, on the known ones behind it, too."""
    n, _, text = question.split(" ", 2)
    lines = text.partition(": ")[2].split("\n\n")
    return [f"{lines[0]} {len(lines)}-{i}" for i in range(int(n))]


def completion(content, usage=(10, 5)):
    """The body of an answer."""
    message = {"role": "assistant", "content": content}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return body


class Server:
    """What it does with a request: the next of `plan`, else an answer.

    A step of the plan is a function of the request's body. It returns `(status, headers, body)`, where the body may be
    an iterator of bytes, an answer's content, or None for an answer.

    Attributes:
        asked: the questions, as they came.
        answered: the questions that had an answer with status 200.
        bodies, keys: those of each request.
    """

    def __init__(self) -> None:
        self.plan: list[Callable] = []
        self.always: Callable | None = None
        self.asked, self.answered, self.bodies, self.keys, self.times = [], [], [], [], []
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0

    def reply(self, body: dict):
        step = None
        with self.lock:
            step = self.plan.pop(0) if self.plan else self.always
        said = step(body) if step else None
        if said is None:
            said = json.dumps(paraphrases(body["messages"][0]["content"]))
        return said if isinstance(said, tuple) else (200, {}, completion(said))


@contextmanager
def serving():
    """A server and its address, until the end of the block."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            import time

            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][0]["content"]
            with server.lock:
                server.asked.append(question)
                server.bodies.append(body)
                server.keys.append(self.headers["Authorization"])
                server.times.append(time.monotonic())
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            status, headers, said = (404, {}, {}) if self.path != "/v1/chat/completions" else server.reply(body)
            data = said if isinstance(said, bytes | Iterator) else json.dumps(said).encode()
            with server.lock:
                server.under_way -= 1
                if status == 200:
                    server.answered.append(question)
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                if isinstance(said, Iterator):
                    self.send_header("Connection", "close")
                    self.end_headers()
                    for part in said:
                        self.wfile.write(part)
                    return
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client has gone

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_):
            pass

    web = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{web.server_port}/v1"
    try:
        yield server
    finally:
        web.shutdown()
        web.server_close()


TEXTS = [f"where is parcel {i}" for i in range(12)]
LABELS = ["delivery", "billing"] * 6


def made(augmenter, texts=TEXTS, labels=LABELS, n=2, seed=0):
    """What the augmenter makes of the texts, from start to finish."""
    augmenter.start(texts, labels[: len(texts)], n, seed)
    try:
        return augmenter.make(texts, labels[: len(texts)], n, [])
    finally:
        augmenter.finish()


def expected(texts=TEXTS, n=2):
    return [paraphrases(f"{n} of any: {text}") for text in texts]


def refusing(status, **headers):
    body = {"error": {"message": "it cannot be"}}
    return lambda _: (status, {name.replace("_", "-"): str(value) for name, value in headers.items()}, body)


def saying(content):
    return lambda _: content
