"""The image of `deni serve`: what its steps are, and that they are those of a checkout."""

import json
import re
import shlex
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
