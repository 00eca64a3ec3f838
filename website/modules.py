"""Pages of the API, one for each part of the library, made from its docstrings when the site is built."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = "api"
SOURCE = Path(__file__).parents[1] / "src"
# Page -> what it is about, and the modules on it, in this order; a package stands for all modules in it.
PAGES = {
    "Models": (
        "Load, predict, export, push, serve; the estimator of scikit-learn.",
        "artifact sklearn models hub serving",
    ),
    "Training": (
        "The trainer, and training from a file or from texts.",
        "training recipe finetune cross_validation adaptation distillation commands",
    ),
    "Strategies": ("When members exist, what auto becomes, and what stands beside them.", "strategies auto baselines"),
    "Tunings": ("Which parameters train.", "tuning"),
    "Population": (
        "Schedule, randomness, noise, members, engines.",
        "schedule randomness noise population generation engine",
    ),
    "Tasks": ("What a text has, and how members vote on it.", "tasks"),
    "Data": ("Texts, splits, checks, augmented texts, labels.", "data augmentation labeling chat"),
    "Studies": ("Grid, cells, store, runners, diagnosis.", "study diagnose"),
    "Measures": ("Functions of NumPy arrays: scores, spread, differences.", "measures"),
    "Reports": ("Statistics of a study; tables, figures, the page.", "analysis report"),
    "Errors and settings": (
        "What is raised, and how settings are read.",
        "errors settings registry deprecation inputs outputs written terminal progress provenance",
    ),
}
LEFT_OUT = {"cli", "_version"}  # the command line has pages of its own


def on_config(config: Any) -> Any:
    """Puts the pages into the navigation."""
    place = next(item for item in config.nav if "API" in item)
    place["API"] = [f"{FOLDER}/index.md", *({title: path(title)} for title in PAGES)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages to the site."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, f"{FOLDER}/index.md", content=overview()))
    for title in PAGES:
        files.append(File.generated(config, path(title), content=page(title)))
    return files


def path(title: str) -> str:
    """Where the page of this title is in the site."""
    return f"{FOLDER}/{title.lower().replace(' ', '_')}.md"


def overview() -> str:
    """The page of `deni` itself."""
    names = {each for _, parts in PAGES.values() for each in parts.split()} | LEFT_OUT
    there = {each.relative_to(SOURCE / "deni").parts[0] for each in (SOURCE / "deni").rglob("*.py")}
    there = {each.removesuffix(".py") for each in there} - {"__init__"}
    if names != there:
        raise ValueError(f"website/modules.py: no page for {there - names}, no module for {names - there}")
    lines = ["# API", "", "These names are public ([versioning](../versioning.md)); `import deni` loads nothing heavy."]
    lines += ["", "| name | what it is |", "| --- | --- |"]
    lines += [f"| [deni.{name}][{place}.{name}] | {text} |" for name, place, text in public_names()]
    lines += ["", "All modules, internal ones among them:", "", "| page | what it holds |", "| --- | --- |"]
    lines += [f"| [{title}]({Path(path(title)).name}) | {text} |" for title, (text, _) in PAGES.items()]
    return "\n".join([*lines, ""])


def public_names() -> Iterator[tuple[str, str, str]]:
    """Each public name with its module and the first line of its docstring."""
    statements = ast.parse((SOURCE / "deni" / "__init__.py").read_text(encoding="utf-8")).body
    tables = {ast.unparse(each.targets[0]): each.value for each in statements if isinstance(each, ast.Assign)}
    for module, names in ast.literal_eval(tables["_PUBLIC"]).items():
        file = SOURCE / "deni" / f"{module.replace('.', '/')}.py"
        body = ast.parse(file.read_text(encoding="utf-8")).body
        defined = {each.name: each for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
        for name in names.split():
            first = (ast.get_docstring(defined[name]) or "").partition("\n")[0]
            yield name, f"deni.{module}", first


def page(title: str) -> str:
    """A page: its modules, one below the other."""
    text, parts = PAGES[title]
    modules = [module for part in parts.split() for module in modules_of(part)]
    return "\n\n".join([f"# {title}", text, *map(shown, modules), ""])


def shown(module: str) -> str:
    """What mkdocstrings makes a section of: a module; of a package only what is written in it, not what it hands on."""
    file = SOURCE / module.replace(".", "/") / "__init__.py"
    if not file.exists():
        return f"::: {module}"
    body = ast.parse(file.read_text(encoding="utf-8")).body
    own = [each.name for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name[0] != "_"]
    return f"::: {module}\n    options:\n      members: {own or 'false'}"


def modules_of(part: str) -> list[str]:
    """The names of the modules of a part of `deni`."""
    file = SOURCE / "deni" / f"{part}.py"
    if file.exists():
        return [f"deni.{part}"]
    files = sorted((SOURCE / "deni" / part).rglob("*.py"))
    names = [".".join(each.relative_to(SOURCE).with_suffix("").parts) for each in files]
    return [name.removesuffix(".__init__") for name in names]
