"""Uploads by the real client to a server that speaks the hub's protocol, and what the server may answer."""

import pytest

from deni.errors import InputError
from deni.hub.uploading import LARGE, upload
from tests.helpers.hub_client import point_to
from tests.helpers.hub_server import Fault

# httpx says how the client should upload.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "someone/model"
FILES = {"README.md": b"---\ntags: [a]\n---\n", "config.json": b"{}", "a.safetensors": b"a" * 40, "b.safetensors": b"b"}


def test_what_is_uploaded_is_there(hub):
    commit = upload(NAME, FILES)
    files = hub.files(NAME)
    assert {path: files[path] for path in FILES} == FILES
    assert commit.oid == hub.models[NAME].refs["main"]
    assert not hub.models[NAME].private
    assert hub.authorized == {"hf_write"}


def test_a_token_that_is_given_comes_before_that_of_the_login(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    upload(NAME, FILES, token="hf_write")
    assert "config.json" in hub.files(NAME)


def test_a_second_push_after_a_failure_midway_sends_only_what_is_missing(hub):
    large = {"a.safetensors": b"a" * LARGE, "b.safetensors": b"b" * (LARGE + 1)}
    hub.faults.append(Fault("*.git/info/lfs/objects/batch", 400, message="stopped"))
    hub.faults.append(Fault("api/models/*/commit/*", 400, message="stopped again"))
    with pytest.raises(InputError, match=r"the hub refuses it \(400: stopped\)"):
        upload(NAME, large)
    assert hub.puts == []
    with pytest.raises(InputError, match=r"the hub refuses it \(400: stopped again\)"):
        upload(NAME, large)
    assert hub.puts == [LARGE, LARGE + 1]
    hub.blobs.pop(next(oid for oid, content in hub.blobs.items() if content[:1] == b"b"))  # this one did not arrive
    upload(NAME, large)
    assert hub.puts == [LARGE, LARGE + 1, LARGE + 1]
    assert hub.files(NAME)["a.safetensors"] == large["a.safetensors"]
    upload(NAME, large)
    assert len(hub.puts) == 3
    assert len(hub.models[NAME].commits) == 2  # nothing had changed


@pytest.mark.parametrize(
    ("path", "method"),
    [("api/repos/create", "POST"), ("api/models/*/preupload/*", "POST"), ("lfs/*", "PUT"), ("*/commit/*", "POST")],
)
def test_an_answer_of_a_hub_that_is_out_of_order_is_asked_for_again(hub, path, method):
    hub.faults.append(Fault(path, 503, times=2, method=method))
    upload(NAME, FILES)
    assert hub.files(NAME)["a.safetensors"] == FILES["a.safetensors"]
    assert hub.faults[0].times == 0


def test_a_hub_that_stays_out_of_order_is_one_line(hub):
    hub.faults.append(Fault("*/commit/*", 500, times=99))
    with pytest.raises(InputError, match=r"out of order \(500, 3 tries\): try again later; what was uploaded is"):
        upload(NAME, FILES)
    assert sum("/commit/" in request for request in hub.requests) == 3


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("api/repos/create", 401), "cannot be pushed without a valid token: log in with `hf auth login`"),
        (Fault("*/commit/*", 403, message="read only"), "may not be written with this token"),
        (Fault("*/commit/*", 409), r"was changed by somebody else at the same time \(409\): push again"),
        (Fault("*/commit/*", 412), r"was changed by somebody else at the same time \(412\): push again"),
        (Fault("*/commit/*", 404), r"is not there for this token \(404\)"),
        (Fault("lfs/*", 403, times=9), "may not be written with this token"),
        (Fault("*/commit/*", 413, message="too large"), r"the hub refuses it \(413: too large\)"),
    ],
)
def test_a_refusal_is_one_line_and_is_not_asked_for_again(hub, fault, expected):
    hub.faults.append(fault)
    with pytest.raises(InputError, match=f"^{NAME} .*{expected}") as caught:
        upload(NAME, FILES)
    assert "\n" not in str(caught.value)
    assert "hf_" not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "expected"),
    [("", "without a valid token"), ("hf_wrong", "without a valid token"), ("hf_read", "may not be written")],
)
def test_a_token_that_will_not_do_is_one_line_without_the_token(hub, monkeypatch, token, expected):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=expected) as caught:
        upload(NAME, FILES)
    assert "hf_w" not in str(caught.value)
    assert "hf_r" not in str(caught.value)
    assert hub.models == {}


def test_the_name_of_another_user_is_refused(hub):
    with pytest.raises(InputError, match=r"other/model may not be written with this token: .* or another user/name"):
        upload("other/model", FILES)


def test_what_the_hub_cannot_have_as_a_name_is_one_line(hub):
    with pytest.raises(InputError, match="someone/a--b is not a name that the hub can have: give user/name"):
        upload("someone/a--b", FILES)


def test_private_is_private_and_a_public_repository_is_not_pushed_to_as_private(hub):
    upload(NAME, FILES, private=True)
    assert hub.models[NAME].private
    upload(NAME, FILES, private=True)
    upload("someone/public", FILES)
    with pytest.raises(InputError, match="on the hub already, and public: make it private there, or omit --private"):
        upload("someone/public", {**FILES, "secret.json": b"{}"}, private=True)
    assert "secret.json" not in hub.files("someone/public")


def test_a_push_replaces_the_model_and_leaves_other_files(hub):
    upload(NAME, FILES)
    others = {"training_args.bin": b"a pickle", "notes.md": b"mine", "runs/model.json": b"{}"}
    hub.models[NAME].commit({**hub.files(NAME), **others})
    upload(NAME, {"README.md": FILES["README.md"], "c.safetensors": b"c"})
    assert hub.files(NAME).keys() == {".gitattributes", "README.md", "c.safetensors", "notes.md", "runs/model.json"}


def test_a_branch_is_made_and_the_main_one_stays(hub):
    upload(NAME, FILES)
    upload(NAME, {**FILES, "config.json": b"[]"}, revision="v2")
    upload(NAME, {**FILES, "config.json": b"[1]"}, revision="v2")
    assert [hub.files(NAME, each)["config.json"] for each in ("main", "v2")] == [b"{}", b"[1]"]


def test_without_a_network_it_is_one_line(tmp_path, monkeypatch):
    point_to("http://127.0.0.1:9", tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"someone/model cannot be pushed: the hub cannot be reached \(.*\): check"):
        upload(NAME, FILES)


def test_offline_it_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="someone/model cannot be pushed: HF_HUB_OFFLINE is set, unset it"):
        upload(NAME, FILES)
