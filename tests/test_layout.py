"""Imports point one way."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import deni

# A module imports from the rows above its own; a function, or the type checker, may look down.
ROWS = """
_version errors written
outputs terminal
hub
inputs
registry
__init__ deprecation
settings randomness provenance progress measures
chat
noise
schedule
tasks
data
models
engine
population
generation
strategies
tuning baselines
training artifact
recipe
auto
finetune
cross_validation adaptation
sklearn augmentation labeling distillation serving
study
analysis diagnose
commands
report
cli
"""
PLACE = {name: place for place, row in enumerate(ROWS.strip().splitlines()) for name in row.split()}
SOURCE = Path(deni.__file__).parent


def imported(statements):
    """The absolute names that these statements import when they run, functions and TYPE_CHECKING left out."""
    for each in statements:
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            assert each.level == 0, f"line {each.lineno}: a relative import"
            yield from (f"{each.module}.{alias.name}" for alias in each.names)
        elif isinstance(each, ast.If) and "TYPE_CHECKING" in ast.unparse(each.test):
            yield from imported(each.orelse)
        elif not isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported(ast.iter_child_nodes(each))


def part_of(file, source):
    return file.relative_to(source).parts[0].removesuffix(".py")


def wrong_imports(source):
    """`file imports part` for each import that points down or sideways, `file has no place` for a new one."""
    parts = {part_of(file, source) for file in source.rglob("*.py")}
    for file in sorted(source.rglob("*.py")):
        own, path = part_of(file, source), file.relative_to(source)
        if own not in PLACE:
            yield f"{path} has no place"
            continue
        for name in imported(ast.parse(file.read_text(encoding="utf-8")).body):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0] if rest.partition(".")[0] in parts else "__init__"
            if package == "deni" and other != own and PLACE.get(other, len(PLACE)) >= PLACE[own]:
                yield f"{path} imports {other}"


def test_imports_point_one_way():
    assert list(wrong_imports(SOURCE)) == []


def test_the_documentation_lists_the_same_order():
    text = (SOURCE.parents[1] / "docs" / "concepts.md").read_text(encoding="utf-8")
    listed = text.partition("## Imports point one way")[2].partition("```text\n")[2].partition("```")[0]
    rows = [[name for name in row.split() if name[0] != "_"] for row in ROWS.strip().splitlines()]
    assert [line.split(", ") for line in listed.splitlines()] == rows


def circle(source):
    """Modules that import each other in a circle when they are loaded; empty if there is none."""
    files = {".".join(("deni", *file.relative_to(source).with_suffix("").parts)): file for file in source.rglob("*.py")}
    files = {name.removesuffix(".__init__"): file for name, file in files.items()}
    graph = {name: set() for name in files}
    for name, file in files.items():
        for other in imported(ast.parse(file.read_text(encoding="utf-8")).body):
            while other not in files and "." in other:
                other = other.rpartition(".")[0]
            if other in files and other != name:
                graph[name].add(other)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(SOURCE) == []


def test_a_circle_is_found(tmp_path):
    (tmp_path / "one.py").write_text("from deni.two import b")
    (tmp_path / "two.py").write_text("if TYPE_CHECKING:\n    pass\nfrom deni import one")
    assert set(circle(tmp_path)) == {"deni.one", "deni.two"}


def test_measures_are_functions_of_arrays():
    """Of `deni` they import the errors only, and beside NumPy only SciPy: no torch, no files."""
    names = {name for file in (SOURCE / "measures").glob("*.py") for name in imported(ast.parse(file.read_text()).body)}
    own = {".".join(name.split(".")[:2]) for name in names if name.startswith("deni.")}
    assert own == {"deni.measures", "deni.errors"}
    others = {name.partition(".")[0] for name in names} - {"deni"}
    assert others == {"__future__", "collections", "functools", "numpy", "scipy", "typing"}


def test_analysis_draws_nothing():
    """It computes: neither figures nor pages nor tables of a terminal are made there."""
    files = (SOURCE / "analysis").rglob("*.py")
    names = {name.partition(".")[0] for file in files for name in imported(ast.parse(file.read_text()).body)}
    assert not names & {"altair", "jinja2", "vl_convert", "rich", "html"}


def test_a_test_module_imports_no_other_one():
    tests = Path(__file__).parent
    names = {file: imported(ast.parse(file.read_text(encoding="utf-8")).body) for file in tests.rglob("test_*.py")}
    assert [file.name for file, found in names.items() if any(".test_" in name for name in found)] == []


def test_the_order_names_nothing_that_is_gone():
    assert set(PLACE) == {part_of(file, SOURCE) for file in SOURCE.rglob("*.py")}


def test_an_import_that_points_down_and_a_file_without_a_place_are_found(tmp_path):
    files = {
        "__init__.py": "from deni._version import __version__",
        "_version.py": "",
        "noise.py": "from deni.engine.loop import Loop\nfrom deni import randomness",
        "randomness.py": "import deni.noise\nif TYPE_CHECKING:\n    import deni.engine",
        "engine/__init__.py": "def late():\n    from deni import training",
        "engine/loop.py": "try:\n    from deni import training\nexcept ImportError:\n    import deni.noise",
        "training.py": "from deni import __version__\nfrom deni.engine import loop",
        "strategies/new.py": "from deni.tuning import Lora",
        "tuning/__init__.py": "from deni.helpers import help",
        "helpers.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert sorted(wrong_imports(tmp_path)) == [
        "engine/loop.py imports training",
        "helpers.py has no place",
        "noise.py imports engine",
        "randomness.py imports noise",
        "strategies/new.py imports tuning",
        "tuning/__init__.py imports helpers",
    ]
