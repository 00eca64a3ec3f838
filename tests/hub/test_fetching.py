"""Downloads by the real client from a server that speaks the hub's protocol, and what the server may answer."""

import pytest

from deni.errors import ArtifactError, SettingError
from deni.hub.fetching import local_folder, read_card
from deni.inputs import check_model, check_named_model
from tests.helpers.hub_client import TOKENS, client_of, point_to
from tests.helpers.hub_server import Fault, Hub, Model

NAME = "someone/model"
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "README.md": b"# a model"}
CODE = {
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "training_args.bin": b"pickle",
    "run.sh": b"exit",
    "checkpoint/model.safetensors": b"another",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tokens=dict(TOKENS), models={NAME: Model()})
    hub.models[NAME].commit({**FILES, **CODE})
    with client_of(hub, tmp_path / "cache", monkeypatch):
        yield hub


def content(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_model_of_the_hub_is_a_folder_without_code_and_pickles(hub):
    folder = local_folder(NAME)
    assert content(folder) == FILES
    hub.requests.clear()
    assert local_folder(NAME) == folder
    assert not [request for request in hub.requests if "/resolve/" in request]


def test_a_revision_is_a_branch_a_tag_or_a_commit_also_behind_an_at(hub):
    old = hub.models[NAME].refs["main"]
    hub.models[NAME].refs["v1"] = old
    hub.models[NAME].commit({**FILES, "config.json": b"[]"})
    read = [content(local_folder(*each))["config.json"] for each in ((NAME,), (NAME, "v1"), (NAME, old))]
    pinned = [content(local_folder(f"{NAME}@{each}"))["config.json"] for each in ("main", "v1", old)]
    assert read == pinned == [b"[]", b"{}", b"{}"]
    assert local_folder(f"{NAME}@v1", "v1") == local_folder(NAME, "v1")
    with pytest.raises(SettingError, match="someone/model@v1 names another revision than 'v2': give one of them"):
        local_folder(f"{NAME}@v1", "v2")
    with pytest.raises(ArtifactError, match="someone/model has no revision 'v9' on the hub: give a branch, a tag or a"):
        local_folder(NAME, "v9")


def test_a_folder_that_is_here_comes_before_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir(parents=True)
    assert local_folder(NAME).resolve() == tmp_path / NAME
    assert hub.requests == []
    with pytest.raises(SettingError, match="revision 'v1' is of a model of the hub, and someone/model is none: omit"):
        local_folder(NAME, "v1")
    with pytest.raises(ArtifactError, match=r"someone/typo is not a folder: .* \(the hub is not asked, since"):
        check_model("someone/typo")
    assert hub.requests == []


def test_a_name_that_is_neither_is_one_line(hub):
    with pytest.raises(ArtifactError, match=r"^someone/typo: no such folder, and no such model on the hub, or a"):
        local_folder("someone/typo")
    with pytest.raises(ArtifactError, match="someone/a--b is neither a folder nor a name that the hub can have"):
        local_folder("someone/a--b")
    with pytest.raises(ArtifactError, match=r"typo is not a folder: give the folder that `deni train --output` wrote$"):
        check_named_model("typo")
    check_named_model("someone/typo", "v1")  # that is for the hub to say


def test_a_private_model_takes_a_token(hub, monkeypatch):
    hub.models[NAME].private = True
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ArtifactError, match="or a private one: check the name, or log in with") as caught:
        local_folder(NAME)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_read")
    assert content(local_folder(NAME)) == FILES


def test_weights_that_are_pickles_are_refused(hub):
    hub.models["someone/old"] = Model()
    hub.models["someone/old"].commit({"config.json": b"{}", "pytorch_model.bin": b"pickle"})
    with pytest.raises(ArtifactError, match=r"someone/old on the hub has no weights that deni reads \(safetensors;"):
        local_folder("someone/old")


def test_a_hub_that_is_out_of_order_for_a_moment_is_asked_again(hub):
    hub.faults.append(Fault("api/models/*", 503, times=2))
    assert content(local_folder(NAME)) == FILES


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("api/models/*", 502, times=99), r"the hub is out of order \(502, 3 tries\): try again later"),
        (Fault("*/resolve/*/config.json", 500, times=99), r"the hub is out of order \(500, 3 tries\)"),
        (Fault("api/models/*", 403, times=99), "may not be read with this token"),
        (Fault("api/models/*", 429, times=99), r"too many requests \(429\): try again in some minutes"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, fault, expected):
    hub.faults.append(fault)
    with pytest.raises(ArtifactError, match=f"^{NAME} .*{expected}") as caught:
        local_folder(NAME)
    assert "\n" not in str(caught.value)


def test_offline_and_without_a_network_the_cache_is_read_or_it_is_one_line(hub, tmp_path, monkeypatch):
    folder = local_folder(NAME)
    point_to("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    assert local_folder(NAME) == folder
    with pytest.raises(ArtifactError, match=r"someone/other cannot be loaded from the hub: the hub cannot be reached"):
        local_folder("someone/other")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert local_folder(NAME) == folder
    with pytest.raises(
        ArtifactError, match="someone/other: no such folder, not in the hub's cache, and HF_HUB_OFFLINE"
    ):
        local_folder("someone/other")


def test_a_card_that_is_missing_or_damaged_is_empty(hub):
    hub.models[NAME].commit({"README.md": b"---\nlicense: mit\nlanguage: [en, de]\n---\n# a"})
    assert read_card(NAME) == {"license": "mit", "language": ["en", "de"]}
    hub.models[NAME].commit({"README.md": b"---\nlicense: [\n---\n# a"})
    assert read_card(NAME) == {}
    assert read_card("someone/typo") == {}
