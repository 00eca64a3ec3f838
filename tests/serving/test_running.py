"""A real server on this machine: its address, and a stop that loses nothing."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from deni.errors import InputError
from deni.serving.app import create_app
from deni.serving.running import bind
from tests.helpers.serving import served

TEXT = "my parcel is late"


def test_an_address_that_is_taken_is_refused_in_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} of 127\.0\.0\.1 cannot be used .*give another --port"):
            bind("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"192\.0\.2\.1 cannot be used"):
        bind("192.0.2.1", 0)
    with pytest.raises(InputError, match=r"no address of this machine"):
        bind("no such host", 0)


def test_requests_at_the_same_time_are_predicted_together_as_each_alone(artifact):
    classifier = artifact("full_deni")
    texts = [f"{TEXT} {'please ' * (at % 5)}" for at in range(24)]
    want = classifier(texts)
    with served(create_app(classifier)) as (address, _), httpx.Client(base_url=address) as client:
        with ThreadPoolExecutor(12) as clients:
            answers = list(clients.map(lambda text: client.post("/predict", json={"texts": text}), texts))
        counters = client.get("/metrics").text
    assert [answer.status_code for answer in answers] == [200] * 24
    for answer, other in zip(answers, want, strict=True):
        assert answer.json()["predictions"] == [pytest.approx(other, abs=1e-6)]
    batches = float(counters.partition("deni_batch_texts_count ")[2].split()[0])
    assert "deni_texts_total 24.0" in counters
    assert batches < 24


def test_what_was_sent_before_a_stop_is_answered(artifact):
    """Requests that are computed, that wait, and whose connection nobody has accepted yet."""
    classifier = artifact("full_deni")
    app = create_app(classifier)
    body = b'{"texts": "my parcel is late"}'
    request = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    request = request % (len(body), body)
    with served(app) as (address, server):
        host, _, port = address.removeprefix("http://").partition(":")
        kept = socket.create_connection((host, int(port)), timeout=10)
        begun = socket.create_connection((host, int(port)), timeout=10)
        begun.sendall(request[:60])
        time.sleep(0.2)  # both are accepted, and wait for more
        held = threading.Event()
        server.servers[0].get_loop().call_soon_threadsafe(held.wait)  # meanwhile it accepts nobody
        time.sleep(0.1)
        sent = [socket.create_connection((host, int(port)), timeout=10) for _ in range(8)]
        for each in sent:
            each.sendall(request)
        server.stop()
        held.set()
        kept.sendall(request)
        begun.sendall(request[60:])
        for each in (kept, begun, *sent):
            answer = b""
            while part := each.recv(4096):  # until the server ends the connection
                answer += part
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"connection: close" in answer
            assert b'"label"' in answer
            each.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


def test_while_it_stops_its_health_says_so(artifact):
    app = create_app(artifact("full_deni"))
    with served(app) as (address, _), httpx.Client(base_url=address) as client:
        assert client.get("/health").json() == {"status": "ok"}
        app.state.stopping = True
        answer = client.get("/health")
        assert (answer.status_code, answer.json()) == (503, {"status": "stopping"})
        assert answer.headers["connection"] == "close"


def test_a_stop_waits_for_what_is_computed(artifact):
    classifier, begun, go = artifact("full_deni"), threading.Event(), threading.Event()
    app = create_app(classifier)
    check = classifier.why_unfit

    def slow(text):
        begun.set()
        assert go.wait(10)
        return check(text)

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(1) as clients:
        patched.setattr(classifier, "why_unfit", slow)
        with served(app) as (address, server):
            answer = clients.submit(httpx.post, f"{address}/predict", json={"texts": TEXT}, timeout=10)
            assert begun.wait(10)
            server.stop()
            time.sleep(0.8)  # longer than it gives to connections where nothing is under way
            assert not answer.done()
            go.set()
            assert answer.result(10).status_code == 200
