"""Files about the project agree: Makefile, pyproject.toml, constraints, workflow, hooks, citation, wheel."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import deni

ROOT = Path(__file__).parents[1]
PROJECT_FILE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PROJECT_FILE["project"]
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
NOT_IN_DEV = {"sentencepiece", "sacremoses", "wandb", "setfit"}  # nothing pins them


def parsed(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


# Extras that make test-oldest does not install, or whose versions it takes as they come.
NEWEST_ONLY = ("dev", "docs", "generation", "mlflow", "onnx", "serve", "test")


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(package): Version(version) for package, version in (line.split("==") for line in lines)}


def lower_bounds() -> dict[str, Version]:
    """Package -> the oldest version that pyproject.toml allows, for what the library and the extras import."""
    extras = PROJECT["optional-dependencies"]
    lines = [
        *PROJECT["dependencies"],
        *(line for name in extras if name not in NEWEST_ONLY for line in extras[name]),
    ]
    bounds = {}
    for requirement in map(Requirement, lines):
        versions = [Version(each.version) for each in requirement.specifier if each.operator == ">="]
        bounds.update({canonicalize_name(requirement.name): version for version in versions})
    return bounds


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_only_calls_targets_of_make(path):
    commands = [step["run"] for step in steps(parsed(path)) if "run" in step]
    assert commands
    assert [command for command in commands if command.removeprefix("make ") not in TARGETS] == []


def test_the_workflow_runs_what_ci_runs():
    commands = re.findall(r"^make .*$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.M)
    called = {step.get("run") for path in WORKFLOWS for step in steps(parsed(path))}
    # Its jobs have no datasets: `make test` there is `make test-without-data`.
    assert set(commands) - {"make test-without-data"} <= called


def test_the_workflow_tests_the_python_versions_that_the_package_names():
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    newest = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["newest"]
    package = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["package"]
    assert package["strategy"]["matrix"]["python"] == named
    assert newest["strategy"]["matrix"]["python"] == named == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_what_the_forge_needs(path):
    form = parsed(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["type"] in ("input", "textarea") and field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields) >= 3


def test_the_hooks_are_local_and_use_the_environment_of_make():
    (repository,) = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    hooks = {hook["name"]: hook["entry"] for hook in repository["hooks"]}
    assert list(hooks) == ["ruff check", "ruff format", "mypy"]
    environment = re.search(r"^VENV \?= (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)[1]
    assert [entry for name, entry in hooks.items() if not entry.startswith(f"{environment}/bin/{name}")] == []


def test_the_citation_is_of_this_version_and_of_the_paper_in_the_readme():
    citation = parsed(ROOT / "CITATION.cff")
    assert (citation["type"], citation["title"]) == ("software", PROJECT["name"])
    assert (citation["version"], citation["license"]) == (deni.__version__, PROJECT["license"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["keywords"] == PROJECT["keywords"]
    (paper,) = citation["references"]
    bibtex = dict(re.findall(r"^  (\w+) = \{(.*)\},$", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M))
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    assert (paper["title"], names, paper["doi"]) == (bibtex["title"], bibtex["author"], bibtex["doi"])
    assert (str(paper["year"]), f"{paper['start']}--{paper['end']}") == (bibtex["year"], bibtex["pages"])


def test_the_oldest_versions_that_are_tested_are_the_oldest_that_are_allowed():
    bounds, oldest = lower_bounds(), pins("constraints-oldest.txt")
    assert set(bounds) - set(oldest) == NOT_IN_DEV
    assert {name: oldest[name] for name in set(bounds) & set(oldest)} == {
        name: bound for name, bound in bounds.items() if name in oldest
    }


def test_the_newest_versions_that_are_tested_are_allowed():
    newest = pins("constraints.txt")
    requirements = map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["report"]])
    refused = [each.name for each in requirements if newest[canonicalize_name(each.name)] not in each.specifier]
    assert refused == []


def test_the_conda_recipe_needs_what_pyproject_needs():
    recipe = parsed(ROOT / "recipe" / "recipe.yaml")
    python, *run = recipe["requirements"]["run"]
    assert python == f"python {PROJECT['requires-python']}"
    wanted = [Requirement(line.replace("pytorch ", "torch ")) for line in run]
    assert wanted == [Requirement(line) for line in PROJECT["dependencies"]]
    assert f"setuptools {PROJECT_FILE['build-system']['requires'][0].removeprefix('setuptools')}" in str(recipe)
    assert recipe["context"]["version"] == deni.__version__
    scripts = [f"{name} = {function}" for name, function in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    about = {name: recipe["about"][name] for name in ("summary", "license", "homepage", "documentation", "repository")}
    urls = [PROJECT["urls"][name] for name in ("Homepage", "Documentation", "Source")]
    assert list(about.values()) == [PROJECT["description"], PROJECT["license"], *urls]


def test_every_dependency_has_a_lower_bound():
    assert {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} <= set(lower_bounds())


def test_the_wheel_has_the_package_and_nothing_else(tmp_path):
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", checkout / "src", ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, checkout)
    for name in ("scripts", "tests"):  # they must not get in
        (checkout / name).mkdir()
        (checkout / name / "__init__.py").touch()
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=checkout, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packed = {name for name in names if ".dist-info/" not in name}
    files = {path.relative_to(checkout / "src").as_posix() for path in (checkout / "src").rglob("*") if path.is_file()}
    assert packed == {name for name in files if ".egg-info/" not in name}
    assert {"deni/py.typed", "deni/report/html/page.css", "deni/data/demo/support_train.csv"} <= packed
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    check_page(zipfile.ZipFile(wheel).read(metadata).decode())


def check_page(metadata: str) -> None:
    """Each link of the README leads to the same file in the repository at this version, from any page."""
    body = metadata.partition("\n\n")[2]
    assert "Description-Content-Type: text/markdown" in metadata
    before, after = (links(text) for text in ((ROOT / "README.md").read_text(encoding="utf-8"), body))
    assert [link for link in after if not link.startswith("https://")] == []
    source = re.escape(f"{PROJECT['urls']['Source']}/") + f"(?:blob|raw)/v{re.escape(deni.__version__)}/"
    assert [re.sub(source, "", link) for link in after] == before
    assert f"{PROJECT['urls']['Source']}/raw/v{deni.__version__}/docs/images/demo.png" in after


def links(text: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return [
        str(child.attrs.get("href") or child.attrs["src"]) for child in inline if child.type in ("link_open", "image")
    ]
