"""What the documentation says is what the code does."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from deni.augmentation import AUGMENTERS
from deni.engine.fold import Fold
from deni.strategies import STRATEGIES, Strategy, make_strategy
from deni.strategies.periodic import Periodic
from deni.tuning import TUNINGS
from tests.helpers.registered import forgotten_afterwards

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CARDS = ROOT / "docs" / "strategies"
STEPS = 1250  # T of the cost tables
SECTIONS = ["Idea", "When to use", "Settings", "Cost", "Memory", "Inference cost", "Limits", "Reference"]
SCHEDULE = re.compile(r"`(\d+x\d+(?: \d+x\d+)*)`")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def section(page: Path, title: str) -> str:
    return re.split(r"^## ", page.read_text(), flags=re.M)[1 + SECTIONS.index(title)]


def settings_table(name: str) -> dict[str, list[str]]:
    """Field -> the cells of its row."""
    rows = [cells(line) for line in section(CARDS / f"{name}.md", "Settings").splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in rows}


def strategy_of(settings: str, name: str | None) -> Strategy:
    """What the first cell of a cost table stands for: `defaults`, or keywords of `make_strategy`."""
    given: dict[str, Any] = {}
    if settings != "defaults":
        call = ast.parse(f"f({settings.strip('`')})", mode="eval").body
        assert isinstance(call, ast.Call)
        given = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return make_strategy(given.pop("strategy", None) or name, **given)


COSTS = [
    pytest.param(page, cells(line), id=f"{named(page)}:{number}")
    for page in PAGES
    for number, line in enumerate(page.read_text().splitlines(), 1)
    if line.startswith("|") and SCHEDULE.search(line)
]
LENGTHS = [
    pytest.param(card.stem, cells(line), id=f"{card.stem}:{number}")
    for card in sorted(CARDS.glob("*.md"))
    for number, line in enumerate(card.read_text().splitlines(), 1)
    if re.fullmatch(r"\| [^|]+( \| \d+){4} \|", line)
]
LINKS = [
    pytest.param(page, link, id=f"{named(page)}:{link}")
    for page in PAGES
    for link in sorted(set(re.findall(r"\]\(([^)\s]+)\)", page.read_text())))
    if "://" not in link
]


def examples(kind: str) -> str:
    """The code of docs/extending.md that is marked as an example of this kind."""
    text = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(rf"<!-- {kind} example -->\n *```python\n(.*?)```", text, flags=re.S)
    assert blocks
    blocks = [
        block.replace("from deni.strategies.middle_fork import MiddleFork\n", "") for block in blocks
    ]  # of the test
    future = "from __future__ import annotations\n"
    return future + "\n".join(textwrap.dedent(block).replace(future, "") for block in blocks)


@pytest.fixture
def run_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    def run(kind: str) -> dict[str, Any]:
        module = ModuleType("example_of_extending")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
        exec(compile(examples(kind), "extending.md", "exec"), module.__dict__)
        return module.__dict__

    with forgotten_afterwards():
        yield run


def test_every_strategy_has_a_card_and_every_card_a_strategy() -> None:
    assert {card.stem for card in CARDS.glob("*.md")} - {"index"} == set(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_card_has_all_sections_in_order(name: str) -> None:
    assert re.findall(r"^## (.*)$", (CARDS / f"{name}.md").read_text(), flags=re.M) == SECTIONS


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_card_names_every_setting_with_its_default(name: str) -> None:
    fields = {field.name: field.default for field in dataclasses.fields(STRATEGIES[name])}
    assert {key: ast.literal_eval(row[2].strip("`")) for key, row in settings_table(name).items()} == fields


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_paper_column_of_a_card_is_the_preset_paper(name: str) -> None:
    preset = make_strategy(name, preset="paper").settings()
    table = settings_table(name)
    said = {key: ast.literal_eval(row[3].strip("`")) for key, row in table.items() if row[3] != "not stated"}
    assert said == {key: preset[key] for key in said}
    assert not [key for key in STRATEGIES[name].presets.get("paper", {}) if key not in said]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_card_names_what_the_preset_released_changes(name: str) -> None:
    text = section(CARDS / f"{name}.md", "Settings")
    for key, value in STRATEGIES[name].presets.get("released", {}).items():
        assert f"{key}={value}".replace('"', "") in text.replace('"', "")


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "auto"])
def test_a_card_shows_the_cost_of_the_defaults(name: str) -> None:
    assert "\n| defaults | `" in section(CARDS / f"{name}.md", "Cost")


@pytest.mark.parametrize(("page", "row"), COSTS)
def test_schedules_and_costs_are_those_of_the_code(page: Path, row: list[str]) -> None:
    strategy = strategy_of(row[0], page.stem if page.parent == CARDS else None)
    schedule = strategy.schedule(STEPS)
    ensemble = make_strategy("ensemble").schedule(STEPS).cost
    assert row[1:] == [f"`{schedule}`", str(schedule.cost), f"{100 * schedule.cost / ensemble:.1f} %"]


@pytest.mark.parametrize(("name", "row"), LENGTHS)
def test_the_length_of_a_run_follows_from_texts_and_epochs(name: str, row: list[str]) -> None:
    strategy = strategy_of(row[0], name)
    own = strategy.settings()
    texts = own.get("most_texts", 1000 * (1 + own.get("augmentations", 0)))  # the paper: 1,000 texts, batch 8
    epochs = int(own.get("epochs", 10))
    steps = -(-texts // 8) * epochs
    assert [int(cell) for cell in row[1:]] == [texts, epochs, steps, strategy.schedule(steps).cost]


@pytest.mark.parametrize("name", ["input_noise", "weight_noise"])
def test_a_card_says_when_noise_comes(name: str) -> None:
    strategy = make_strategy(name)
    assert isinstance(strategy, Periodic)
    assert f"`{strategy.due(STEPS)}`" in section(CARDS / f"{name}.md", "Cost")


def test_a_released_value_in_the_table_of_choices_is_that_of_the_preset() -> None:
    released = make_strategy("deni", preset="released").settings()
    default = make_strategy("deni").settings()
    rows = [cells(line) for line in (ROOT / "docs" / "original_code.md").read_text().splitlines()]
    seen = set()
    for row in rows:
        if len(row) != 5 or not re.fullmatch(r"[WC]\d+", row[0]) or row[3].startswith("none"):
            continue
        names = [name for name in re.findall(r"`(\w+)`", row[3]) if name in released]
        values = re.findall(r"`([^`]+)`", row[4])[: len(names)]
        assert values == [str(released[name]) for name in names], row[0]
        for name in names:
            said = rf"`{name}`[^;]*?(?:`(\w+)` \(default\)|`(\w+)` \(default|default ([\d.]+|None))"
            stated = re.search(said, row[3])
            assert stated, f"{row[0]} says no default of {name}"
            assert str(default[name]) in stated.groups(), row[0]
        seen |= set(names)
    structure = {"members", "interpolate_from", "interpolate_until", "together", "apart", "ensemble_from"}
    beside = {"antithetic", "member_order"}  # ours: no choice that the paper or its code leaves open
    assert seen == set(default) - structure - beside


def test_the_standard_deviations_of_noise_follow_from_the_variance() -> None:
    variance = make_strategy("deni", preset="paper").settings()["variance"]
    text = (ROOT / "docs" / "original_code.md").read_text()
    assert f"sqrt({variance}) s = {variance**0.5:.2f} s" in text
    assert f"sqrt({variance} / 375) s = {(variance / 375) ** 0.5:.2f} s" in text


def test_the_shortest_deni_run_is_as_long_as_its_card_says() -> None:
    least = int(re.findall(r"at least (\d+) optimizer steps", (CARDS / "deni.md").read_text())[0])
    assert make_strategy("deni").schedule(least).steps == least
    with pytest.raises(ValueError, match="train longer"):
        make_strategy("deni").schedule(least - 1)


def test_the_table_of_hooks_has_their_arguments() -> None:
    hooks = re.findall(r"^\| `(\w+)\((.*?)\)` \|", (ROOT / "docs" / "concepts.md").read_text(), flags=re.M)
    assert len(hooks) == 13
    for name, arguments in hooks:
        assert ["self", *re.findall(r"\w+", arguments)] == list(inspect.signature(getattr(Strategy, name)).parameters)


def test_what_the_concepts_say_cannot_be_combined_is_refused() -> None:
    refused = (ROOT / "docs" / "concepts.md").read_text().partition("| refused | why | example |")[2]
    examples = re.findall(r"^\| .* \| .* \| `([\w+]+)` \|$", refused, flags=re.M)
    assert len(examples) == 9
    for example in examples:
        with pytest.raises(ValueError, match="cannot be combined"):
            make_strategy(example)


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_inside_the_repository_lead_somewhere(page: Path, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    assert target.exists()
    if anchor and target.suffix == ".md":  # of a picture it names a color scheme
        titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.M)
        assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_readme_and_contributing_show_the_commands_of_the_makefile() -> None:
    pages = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    readme = pages.replace(".venv/bin/", "BIN/").replace("python3 -m venv .venv", "VENV")
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)/", "BIN/").replace(" --quiet", "")
    defaults = dict(re.findall(r"^(CONSTRAINTS|EXTRAS|TESTS) \?= ?(.*)$", makefile, flags=re.M))
    assert len(defaults) == 3
    for name, value in defaults.items():
        makefile = makefile.replace(f" $({name})" if not value else f"$({name})", value)
    makefile = makefile.replace("$(PYTHON) -m venv $(VENV)", "VENV")
    commands = re.findall(r"^\t((?:BIN/python -m|BIN/deni|VENV).*)$", makefile, flags=re.M)
    assert len(commands) == 8
    assert [command for command in commands if command not in readme] == []


def test_the_example_tuning_trains_biases_and_the_output_layer(run_examples: Callable) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model = run_examples("tuning")["Biases"]().apply(model)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["0.bias", "1.weight", "1.bias"]


def test_the_example_twin_equals_its_plain_layers(run_examples: Callable) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 2, 5, 4, generator=generator, dtype=torch.float64)  # (M, B, T, D)
    weights = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    plain = torch.nn.RMSNorm(4, dtype=torch.float64)
    twin = run_examples("twin")["StackedRMSNorm"](plain, frozenset({"weight"}), Fold(3, 2), "norm")
    twin._parameters["weight"] = torch.nn.Parameter(weights)
    alone = [torch.nn.functional.rms_norm(x, (4,), w) for x, w in zip(inputs, weights, strict=True)]
    torch.testing.assert_close(twin(inputs.flatten(0, 1)), torch.cat(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", AUGMENTERS)
def test_the_page_of_augmented_texts_names_every_setting_with_its_default(name: str) -> None:
    page = (ROOT / "docs" / "augmentation.md").read_text()
    rows = [cells(line) for line in page.partition(f"\n## {name}\n")[2].partition("\n## ")[0].splitlines()]
    said = {
        row[0].strip("`"): ast.literal_eval(row[2].strip("`"))
        for row in rows
        if row[0].startswith("`") and len(row) == 3
    }
    assert said == {field.name: field.default for field in dataclasses.fields(AUGMENTERS[name])}


def test_the_page_of_tunings_names_rates_and_every_setting_with_its_default() -> None:
    rows = [cells(line) for line in (ROOT / "docs" / "tunings.md").read_text().splitlines() if line.startswith("| `")]
    rates = {row[0].strip("`"): row[2:] for row in rows if len(row) == 4 and row[0].strip("`") in TUNINGS}
    for name, cls in TUNINGS.items():
        others = ", ".join(f"{family} {rate:g}" for family, rate in cls.paper_learning_rates.items())
        paper = "; ".join(filter(None, [f"{cls.paper_learning_rate:g}", others]))
        assert rates[name] == [f"{cls.learning_rate:g}", "not in the paper" if name == "prompt" else paper]
    said = {(row[1], row[0].strip("`")): ast.literal_eval(row[3].strip("`")) for row in rows if row[1] in TUNINGS}
    assert said == {
        (name, field.name): field.default for name, cls in TUNINGS.items() for field in dataclasses.fields(cls)
    }
