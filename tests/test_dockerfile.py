"""The image of `deni serve`: what its steps are, that they are those of a checkout, and that they run."""

import importlib.metadata
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from pathlib import Path

import click
import pytest

from deni.cli import main
from tests.helpers.code_blocks import blocks_of

ROOT = Path(__file__).parents[1]


def steps(text: str) -> list[tuple[str, str]]:
    """Instruction and the rest of each step; continued lines are one, comments are none."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


STEPS = steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))


def rest_of(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def pip_commands() -> list[list[str]]:
    """Each `pip install` of the image, as without TORCH_INDEX."""
    without = re.sub(r"\$\{TORCH_INDEX:[^}]*\}", "", " && ".join(rest_of("RUN")))
    commands = [shlex.split(each) for each in without.split("&&")]
    return [words for words in commands if "pip" in words]


def test_the_image_runs_a_user_that_is_not_root():
    made = next(shlex.split(rest) for rest in rest_of("RUN") if rest.startswith("useradd"))
    assert rest_of("USER") == [made[made.index("--uid") + 1]]
    assert int(rest_of("USER")[0]) > 0
    names = [name for name, _ in STEPS]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :])  # nothing belongs to this user


def test_the_base_has_a_python_that_the_package_takes():
    image, _, tag = rest_of("FROM")[0].partition(":")
    assert image == "python"
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {tag.partition('-')[0]}" in classifiers


def test_everything_is_installed_in_the_tested_versions_by_the_commands_of_a_checkout():
    blocks = blocks_of(ROOT / "CONTRIBUTING.md")
    shown = [words[1:] for block in blocks for words in block.commands() if "pip" in words]
    flags = {"--no-cache-dir"}
    installed = [[word for word in words[1:] if word not in flags] for words in pip_commands()]
    constrained = ["-m", "pip", "install", "--constraint", "constraints.txt"]
    assert installed == [[*constrained, "torch"], [*constrained, ".[serve]"]]
    assert [*constrained, "torch"] in shown


def test_what_is_copied_is_there_and_is_not_ignored():
    copied = [word for rest in rest_of("COPY") for word in rest.split()[:-1]]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert copied
    for name in copied:
        assert (ROOT / name.removeprefix("./")).exists()
        assert name.removeprefix("./") in kept


def test_the_command_of_the_image_is_one_of_deni():
    words = json.loads(rest_of("ENTRYPOINT")[0])
    assert words[:2] == ["deni", "serve"]
    command = main.get_command(click.Context(main), "serve")
    context = command.make_context("serve", words[2:])
    port = context.params["port"]
    assert (context.params["host"], str(port)) == ("0.0.0.0", rest_of("EXPOSE")[0])
    assert f"127.0.0.1:{port}/health" in rest_of("HEALTHCHECK")[0]
    assert not re.search("token", " ".join(rest_of("ENV") + rest_of("ARG")), re.IGNORECASE)  # no secret in a layer


@pytest.mark.parametrize("text", ["FROM a\n# comment\nRUN b \\\n    # why\n    && c\n"])
def test_steps_are_read_as_docker_reads_them(text):
    assert steps(text) == [("FROM", "a"), ("RUN", "b && c")]


def other_version() -> str:
    """A package that is installed here in another version than the image's; empty if there is none."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        try:
            if importlib.metadata.version(name).partition("+")[0] != version.partition("+")[0]:
                return name
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


@pytest.fixture
def image():
    """A folder for what would be in the image; any user may enter it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def copy(words: list[str], target: Path) -> None:
    """As COPY does it: without what .dockerignore names, folders by their content."""
    ignored = [line[3:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("**/")]
    *sources, folder = words
    for source in (ROOT / word for word in sources):
        if source.is_dir():
            shutil.copytree(source, target / folder, ignore=shutil.ignore_patterns(*ignored), dirs_exist_ok=True)
        else:
            shutil.copy(source, target / folder)


def as_user(uid: str) -> list[str]:
    """What starts a command as this user: who may read what root may read here, and write nothing."""
    if os.geteuid() != 0:
        return []  # whoever tests is no root
    rights = [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", *rights]


def files_of(folder: Path) -> dict[str, float]:
    return {str(path.relative_to(folder)): path.stat().st_mtime for path in folder.rglob("*")}


def test_the_steps_run_and_the_image_serves_a_model_that_it_may_only_read(image):
    """Without Docker: pip finds in this environment what it would download, and the image's folders are in one here."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    if name := other_version():
        pytest.skip(f"{name} is installed in another version than the image has")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("no setpriv, which starts the server as its user")
    python = image / "usr" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    (packages,) = (python.parents[1] / "lib").glob("python*/site-packages")
    (packages / "here.pth").write_text(sysconfig.get_path("purelib"))
    shutil.copytree(ROOT / "tests" / "artifact" / "format_1" / "full_deni", image / "model")
    for path in (image / "model", *(image / "model").rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    here = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(image / "root")}
    folder, user, health, entrypoint = image, [], [], []
    for step, rest in STEPS:
        if step == "WORKDIR":
            folder = image / rest.lstrip("/")
            folder.mkdir(exist_ok=True)
        elif step == "COPY":
            copy(rest.split(), folder)
        elif step in ("ARG", "ENV"):
            environment |= dict(word.split("=", 1) for word in shlex.split(rest))
        elif step == "RUN" and not rest.startswith("useradd"):
            done = subprocess.run(["sh", "-c", rest], cwd=folder, env={**environment, **here}, capture_output=True)
            assert done.returncode == 0, (done.stdout + done.stderr).decode()
        elif step == "USER":
            user, environment["HOME"] = as_user(rest), "/nonexistent"
        elif step == "HEALTHCHECK":
            health = [word.replace("8000", port) for word in json.loads(rest.partition(" CMD ")[2])]
        elif step == "ENTRYPOINT":
            parts = {"/model": str(image / "model"), "8000": port, "0.0.0.0": "127.0.0.1"}
            entrypoint = [parts.get(word, word) for word in json.loads(rest)]
    assert Path(shutil.which("deni", path=environment["PATH"])).parent == python.parent
    found = subprocess.run(
        [python, "-c", "import deni; print(deni.__file__)"], env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(image)  # the one that the steps installed

    before = files_of(image)
    with subprocess.Popen(
        [*user, *entrypoint], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            for _ in range(120):
                if not subprocess.run([*user, *health], env=environment, capture_output=True).returncode:
                    break
                assert server.poll() is None, server.stdout.read()
                time.sleep(1)
            uid = re.search(r"^Uid:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text(), flags=re.M)[1]
            assert uid == (rest_of("USER")[0] if user else str(os.geteuid())) != "0"
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"texts": ["my parcel is late"]})
            assert answer.status_code == 200
            assert 0 < answer.json()["predictions"][0]["confidence"] <= 1
        finally:
            server.send_signal(getattr(signal, rest_of("STOPSIGNAL")[0]))
        assert server.wait(20) == 0
    assert files_of(image) == before  # nothing was written
