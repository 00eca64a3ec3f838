"""The recipe: everything that decides a fine-tuning besides its texts."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deni.data import DATASETS
from deni.errors import SettingError
from deni.inputs import candidates
from deni.models.architectures import HEAD_DROPOUT_RATE
from deni.models.pooling import resolve
from deni.randomness import Sources
from deni.settings import check_choices, check_numbers, left_open, open_fields
from deni.strategies import ARGUMENTS, STRATEGIES, Strategy, has_setting, make_strategy
from deni.strategies.auto import Auto
from deni.tasks import DEFAULT, TASKS, find_task
from deni.tuning import TUNINGS, Tuning, make_tuning
from deni.tuning.full import Full

FULL = Full()
NOT_SETTINGS = ("given", "chosen", "encoders")  # fields that nobody sets
BY_RUN = ("seed", "learning_rate", "dropout")  # settings that each run of a training may have of its own
MOST_EPOCHS = 1_000_000

# What a preset says of the recipe; its say on strategies is in `Strategy.presets`.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 10, "batch_size": 8, "max_length": 50, "dropout": HEAD_DROPOUT_RATE},
    "released": {"epochs": 10, "batch_size": 8, "max_length": 50, "dropout": HEAD_DROPOUT_RATE},
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a fine-tuning besides its texts.

    With the strategy `Auto`, the default, the texts decide about what is left open here: the fields whose default is
    None in the signature, see `deni.auto`. What is given wins. With another strategy they get a plain value: full
    fine-tuning, 10 epochs, no decay, no warm-up, the pooling of the model's class, one learning rate.

    Args:
        model: `minilm`, a folder, or a hub id; `auto:A,B,C`: the best of several, see `deni.auto.encoders`.
        task: what a text has, one of `deni.tasks.TASKS`.
        tuning: which parameters train.
        strategy: who trains when.
        epochs: passes over the training texts, above 0; 0 with a strategy that fits the output layer before the first
            step, which then is all that changes.
        learning_rate: peak rate; None for the tuning's own.
        batch_size: texts of one optimizer step and process, divided by the accumulation steps.
        eval_batch_size: texts of one forward pass in evaluation.
        max_length: tokens after which a text is cut; None for the 99th percentile of the training texts, at most the
            model's limit.
        dropout: in front of the output layer; None for 0.3 where the architecture has one.
        seed: of sample order, initialization, dropout, noise and augmentation.
        source_seeds: seeds of single sources of randomness (`deni.randomness.SOURCES`) in place of `seed`; those of
            data_split and label_choice in place of the block of `deni.commands.train.train_file`.
        engine: how members are computed.
        members_at_a_time: members in one forward pass; None: as many as fit, on a CPU few where that saves memory.
        optim: name of an optimizer of `transformers.TrainingArguments`; AdamW without decay is Adam.
        weight_decay, warmup_ratio, max_grad_norm, gradient_accumulation_steps, gradient_checkpointing: as in
            `transformers.TrainingArguments`; `max_grad_norm` clips each member by itself, 0 switches it off.
        bf16: compute in bfloat16, with weights in float32, as `transformers.TrainingArguments` does; None: where it is
            known to be faster and no worse, see `deni.finetune.precision.settle`.
        early_stopping_patience: stop after so many epochs without a better score on the dev texts, by the
            metric `best` of the task (macro F1, for one label a text).
        class_weights: weigh the loss so that all classes count alike.
        pooling: how the states of a text's tokens become what the head reads: `pooler`, `cls`, `mean` or `last`, see
            `deni.models.pooling`; `auto`: as the class of the model does, with pairs `bi` the mean.
        normalize_features: scale what is pooled to length 1.
        pairs: `cross`: both texts of a pair are one input; `bi`: the encoder reads each by itself, and the head what
            `deni.models.pairs` makes of both.
        head_lr_scale: the learning rate of the output layer as a multiple of that of all other parameters, above 0.
        given: which of the open fields were given, where the strategy is `Auto`; found out by itself.
        chosen: what `deni.auto.decide` has decided, as JSON values; None where it was not asked.
        encoders: the encoders that it has compared for `model`, likewise.
    """

    model: str = "minilm"
    task: str = DEFAULT
    tuning: Tuning = left_open(FULL)
    strategy: Strategy = field(default_factory=Auto)
    epochs: float = left_open(10)
    learning_rate: float | None = left_open(None)
    batch_size: int = 8
    eval_batch_size: int = 64
    max_length: int | None = None
    dropout: float | None = None
    seed: int = 0
    source_seeds: Mapping[str, int] = field(default_factory=dict)
    engine: Literal["auto", "stacked", "loop"] = "auto"
    members_at_a_time: int | None = None
    optim: str = "adamw_torch_fused"
    weight_decay: float = left_open(0.0)
    warmup_ratio: float = left_open(0.0)
    max_grad_norm: float = 0.0
    gradient_accumulation_steps: int = 1
    bf16: bool | None = None
    gradient_checkpointing: bool = False
    early_stopping_patience: int | None = None
    class_weights: bool = False
    pooling: Literal["auto", "pooler", "cls", "mean", "last"] = left_open("auto", neutral="auto")
    normalize_features: bool = left_open(False, neutral=False)
    pairs: Literal["cross", "bi"] = left_open("cross", neutral="cross")
    head_lr_scale: float = left_open(1.0, neutral=1.0)
    given: tuple[str, ...] | None = field(default=None, repr=False)
    chosen: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    encoders: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._fill()
        object.__setattr__(self, "strategy", self.strategy.for_tuning(self.tuning.adapter))
        for name, value in self.strategy.arguments().items():
            object.__setattr__(self, name, value)  # the strategy's own wins
        check_choices(self)
        check_numbers({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        self._check_seeds()
        above_0 = ("epochs", "learning_rate", "batch_size", "eval_batch_size", "gradient_accumulation_steps")
        for name in (*above_0, "head_lr_scale"):
            value = getattr(self, name)
            if name == "epochs" and value == 0 and self.strategy.fits:
                continue
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(f"{name} must be above 0, not {value}")
        if self.epochs > MOST_EPOCHS:
            raise SettingError(f"epochs must be at most {MOST_EPOCHS:,}, not {self.epochs:g}")
        for name in ("members_at_a_time", "early_stopping_patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SettingError(f"{name} must be at least 1, not {value}")
        for name in ("weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("dropout", "warmup_ratio"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise SettingError(f"{name} must be in [0, 1), not {value}")
        if self.optim != Recipe.optim:
            _check_optim(self.optim)
        task = find_task(self.task)
        if task.generates:
            self._check_generation()
        if self.class_weights and not task.class_weights:
            weighing = " or ".join(name for name, each in TASKS.items() if each.class_weights)
            raise SettingError(f"class_weights needs the task {weighing}, not {self.task}: omit it")
        if task.of_words and (self.pooling != "auto" or self.normalize_features):
            name = "pooling" if self.pooling != "auto" else "normalize_features"
            raise SettingError(f"{name} is not for the task {self.task}, where each token is read by itself: omit it")
        if self.pairs == "bi":
            self._check_bi(task.of_words)
        if task.of_words and self.tuning.virtual_tokens:
            raise SettingError(
                f"tuning {self.tuning.name} puts tokens without labels in front of a text: choose another for "
                f"{self.task}"
            )
        if self.max_length is not None and self.max_length < 4:
            raise SettingError(f"max_length must be at least 4 tokens, not {self.max_length}")
        if self.batch_size % self.gradient_accumulation_steps:
            raise SettingError(
                f"batch_size {self.batch_size} does not divide by gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}"
            )

    def _check_seeds(self) -> None:
        check_numbers({"seed": self.seed, **{f"the seed of {name}": seed for name, seed in self.source_seeds.items()}})
        Sources(self.seed, seeds=self.source_seeds)  # raises

    def _fill(self) -> None:
        """Give what is left open its plain value, and remember what was given where that is still to be decided."""
        given = set()
        for name, plain in {**open_fields(Recipe), **find_task(self.task).plain}.items():
            value = getattr(self, name)
            # In a recipe that was made from another one, what differs from the plain value was given.
            if value is not None and (self.given is None or value != plain):
                given.add(name)
            object.__setattr__(self, name, plain if value is None else value)
        open_still = isinstance(self.strategy, Auto)
        object.__setattr__(self, "given", tuple(sorted({*given, *(self.given or ())})) if open_still else ())

    def _check_generation(self) -> None:
        """Raise SettingError for what makes no sense for a language model that generates."""
        if isinstance(self.strategy, Auto):
            raise SettingError(
                f"auto has no evidence for the task {self.task}: name a strategy, such as default or deni"
            )
        if name := next((part.name for part in self.strategy.parts if not part.generates), None):
            raise SettingError(f"{name} is for models that label texts, not for the task {self.task}: choose another")
        given = {
            "dropout": self.dropout is not None,
            "pooling": self.pooling != "auto",
            "normalize_features": self.normalize_features,
            "pairs": self.pairs != "cross",
            "head_lr_scale": self.head_lr_scale != 1,
        }
        if name := next((name for name, wanted in given.items() if wanted), None):
            raise SettingError(f"{name} is of models that label texts, not of the task {self.task}: omit it")
        if not self.tuning.generates:
            raise SettingError(f"tuning {self.tuning.name} is not for the task {self.task}: choose lora, ia3 or full")

    def _check_bi(self, of_words: bool) -> None:
        """Raise SettingError for what cannot encode two texts separately."""
        if of_words:
            raise SettingError(f"pairs cannot be bi for the task {self.task}, whose texts are no pairs: omit it")
        if not self.tuning.separate_pairs:
            raise SettingError(f"pairs cannot be bi with tuning {self.tuning.name}: use cross, or another tuning")

    @classmethod
    def of(
        cls,
        preset: str | None = None,
        strategy: str | Strategy = Auto.name,
        tuning: str | Tuning | None = None,
        strategy_settings: Mapping[str, Any] | None = None,
        tuning_settings: Mapping[str, Any] | None = None,
        data: str | Path | None = None,
        **given: Any,
    ) -> Recipe:
        """A recipe from names and settings; a preset fills what is not given.

        With a preset, `auto` is the method of the paper: `deni`, in full fine-tuning unless another tuning is given.

        Args:
            tuning: None leaves it open, see `Recipe`.
            preset: `paper`, `released` or None.
            data: what is trained on; with a preset a dataset of `deni.data.DATASETS` has its own `max_length`.
            given: fields of `Recipe`; None means not given. The strategy gets those that are its settings, too.

        Raises:
            SettingError: a name, setting or value that does not exist; the message names it.
            InputError: a preset for a model that cannot be found.
        """
        if strategy == Auto.name and preset is not None:
            strategy = "deni"
        decides = strategy == Auto.name or isinstance(strategy, Auto)
        if tuning is None and decides and (loose := _first_given(tuning_settings)):
            raise SettingError(f"{loose} is a setting of a tuning, and auto has yet to choose one: name the tuning")
        if decides and (loose := _first_given(strategy_settings)):
            raise SettingError(f"{loose} is a setting of a strategy, and auto has none: name one, such as deni")
        chosen = None if tuning is None and decides else make_tuning(tuning or "full", **(tuning_settings or {}))
        shared = {
            name: given[name] for name in ARGUMENTS if given.get(name) is not None and has_setting(strategy, name)
        }
        plan = make_strategy(strategy, preset, **{**shared, **(strategy_settings or {})})
        values = {key: value for key, value in given.items() if value is not None}
        if preset is not None and candidates(str(given.get("model") or "")):
            raise SettingError(f"the preset {preset} is for one model: name it in place of {given['model']}")
        if preset is not None:
            own = {"max_length": DATASETS[str(data)].max_length} if str(data) in DATASETS else {}
            values = {**PRESETS[preset], **own, **values}
            if "learning_rate" not in values:
                from deni.models.loading import load_config

                family = load_config(values.get("model", cls.model)).model_type
                values["learning_rate"] = (chosen or Full()).paper_rate(family)
        return cls(tuning=chosen, strategy=plan, **values)  # type: ignore[arg-type]

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        rates = find_task(self.task).rates
        return self.tuning.learning_rate if rates is None else rates[self.tuning.adapter]

    def chosen_pooling(self) -> tuple[Literal["auto", "pooler", "cls", "mean", "last"], bool]:
        """What `deni.models.pooling.resolve` makes of pooling and normalization; words have none."""
        if find_task(self.task).of_words:
            return "auto", False
        return resolve(self.pooling, self.normalize_features, self.model, self.pairs)

    def reseeded(self, seed: int, source_seeds: Mapping[str, int]) -> Recipe:
        """The same recipe with other seeds, which alone are checked: a study has thousands of them."""
        recipe = copy.copy(self)
        object.__setattr__(recipe, "seed", seed)
        object.__setattr__(recipe, "source_seeds", dict(source_seeds))
        recipe._check_seeds()
        return recipe

    def settings(self) -> dict[str, Any]:
        """The recipe as JSON values; strategy and tuning are under their names."""
        names = [f.name for f in dataclasses.fields(self) if f.name not in NOT_SETTINGS]
        values = {name: getattr(self, name) for name in names}
        pooling, normalize = self.chosen_pooling()
        return {
            **values,
            "pooling": pooling,
            "normalize_features": normalize,
            "source_seeds": dict(self.source_seeds),
            "learning_rate": self.rate,
            "tuning": {"name": self.tuning.name, "settings": self.tuning.settings()},
            "strategy": {"name": self.strategy.name, "settings": self.strategy.settings()},
        }


def shared_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that recipes must share to be trained together, one run for each, see `deni.finetune.fine_tune`.

    Args:
        settings: as `Recipe.settings` gives them, some of them left out.

    >>> one, other = Recipe.of(strategy="default", learning_rate=1e-3), Recipe.of(strategy="default", seed=3)
    >>> shared_settings(one.settings()) == shared_settings(other.settings())
    True
    """
    from deni.engine.active_tokens import ELEMENTWISE

    strategy, tuning = settings["strategy"], settings["tuning"]
    names = strategy["name"].split("+")
    if not all(name in STRATEGIES for name in names):  # a baseline: nothing is trained together
        return dict(settings)
    parts = strategy["settings"] if len(names) > 1 else {names[0]: strategy["settings"]}
    kept = {name: _without(parts[name], STRATEGIES[name].by_run) for name in names}
    free = TUNINGS[tuning["name"]].by_run if tuning["name"] in TUNINGS else ()
    # Padding stays zero where each element is updated by itself.
    if settings["optim"] not in ELEMENTWISE or not all(STRATEGIES[name].by_rank for name in names):
        free = tuple(name for name in free if name != "lora_r")
    return {
        **_without(settings, BY_RUN),
        "strategy": {**strategy, "settings": kept if len(names) > 1 else kept[names[0]]},
        "tuning": {**tuning, "settings": _without(tuning["settings"], free)},
    }


def _without(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _first_given(settings: Mapping[str, Any] | None) -> str | None:
    """The name of a setting that is given; None where there is none."""
    return next((name for name, value in (settings or {}).items() if value is not None), None)


def _check_optim(name: str) -> None:
    """Raise SettingError for an optimizer that transformers does not know; asking it takes seconds."""
    from transformers.training_args import OptimizerNames

    known = [str(each.value) for each in OptimizerNames]
    if name not in known:
        near = difflib.get_close_matches(name, known) or ["adamw_torch", "sgd", "adafactor"]
        raise SettingError(f"unknown optim {name!r}: choose one of transformers, such as {', '.join(near)}")
