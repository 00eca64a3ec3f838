"""Soft targets and weights of rows, as transformers.Trainer with a hand-written loss learns from them."""

import copy
import random

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from torch.utils.data import IterableDataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    default_data_collator,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from deni.data import Texts
from deni.errors import SettingError
from deni.models.loading import load_tokenizer
from deni.models.pair_rows import PairCollator
from deni.models.tokenizing import tokenize
from deni.randomness import Sources, global_generators
from deni.strategies import (
    DENI,
    Augmentation,
    Default,
    DelayedEnsemble,
    Ensemble,
    InputNoise,
    LinearProbe,
    Mixout,
    MultiDropout,
    RDrop,
    Refit,
    Setup,
)
from deni.tasks import TASKS
from deni.tasks.single_label import SingleLabel
from deni.training.soft_labels import SoftCollator
from deni.training.trainer import PopulationTrainer
from deni.tuning import Lora
from tests.helpers.references import Ours, Reference, apart, collate, moved, plain, trained, without_dropout
from tests.helpers.trainers import CONFIG

KINDS = ("single_label", "multi_label", "regression", "ordinal", "token")
GIVEN = {"ordinal": "ordinal"}  # others follow from the model and its labels
OUTPUTS = {"regression": 1}
PROBLEMS = {"multi_label": "multi_label_classification", "regression": "regression"}


def model_of(kind, seed=0):
    model = plain(task="Token" if kind == "token" else "Sequence", num_labels=OUTPUTS.get(kind, 3), seed=seed)
    model.config.problem_type = PROBLEMS.get(kind)
    return model


def rows_of(kind, count=22, seed=1, hard=False):
    """Rows with soft labels and weights of thirds and eighths; of words those without a label are not looked at."""
    draw = random.Random(seed)

    def distribution():
        shares = [draw.randrange(1, 9) for _ in range(3)]
        return [share / sum(shares) for share in shares]

    made = []
    for _ in range(count):
        length = draw.randrange(4, 10)
        row = {"input_ids": [draw.randrange(5, 60) for _ in range(length)]}
        if kind == "token":
            row["soft_labels"] = [distribution() for _ in range(length)]
            row["labels"] = [draw.choice([int(np.argmax(each)), -100]) for each in row["soft_labels"]]
        elif kind == "regression":
            row["soft_labels"] = [draw.randrange(-8, 9) / 8]
            row["labels"] = row["soft_labels"][0]
        elif kind == "multi_label":
            row["soft_labels"] = [draw.randrange(9) / 8 for _ in range(3)]
            row["labels"] = [float(each > 0.5) for each in row["soft_labels"]]
        else:
            row["soft_labels"] = distribution()
            row["labels"] = int(np.argmax(row["soft_labels"]))
        row["sample_weight"] = draw.choice([0.0, 0.5, 1.0, 3.0])
        made.append(row)
    return made


def losses_by_hand(kind, logits, soft):
    if kind == "multi_label":
        return -(soft * logsigmoid(logits) + (1 - soft) * logsigmoid(-logits)).mean(-1)
    if kind == "regression":
        return (logits - soft).square().mean(-1)
    if kind == "ordinal":
        return (logits.softmax(-1).cumsum(-1) - soft.cumsum(-1)).square().sum(-1)
    return -(soft * logits.log_softmax(-1)).sum(-1)


class ReferenceSoft(Reference):
    kind = "single_label"

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        soft, weights, labels = (inputs.pop(name) for name in ("soft_labels", "sample_weight", "labels"))
        outputs = model(**inputs)
        each = losses_by_hand(self.kind, outputs.logits, soft.to(outputs.logits))  # (B,) or (B, T)
        if self.kind == "token":
            weights = weights[:, None] * (labels != -100)
        loss = (each * weights).sum() / weights.sum().clamp(min=1e-9)
        return (loss, outputs) if return_outputs else loss


def by_hand(kind):
    return type("ReferenceSoft", (ReferenceSoft,), {"kind": kind})


def collate_hard(features):
    """As `collate`, also of several labels."""
    labels = [each["labels"] for each in features]
    if not (isinstance(labels[0], list) and isinstance(labels[0][0], float)):
        return collate(features)
    return {**collate([{**each, "labels": 0} for each in features]), "labels": torch.tensor(labels)}


def collate_soft(features):
    batch = collate_hard(features)
    soft = [torch.tensor(each["soft_labels"]) for each in features]
    weights = torch.tensor([each["sample_weight"] for each in features])
    return {**batch, "soft_labels": torch.nn.utils.rnn.pad_sequence(soft, True), "sample_weight": weights}


def reference(folder, kind, model, data, **args):
    options = {"data": data, "evaluated": data, "collator": collate_soft}
    return trained(
        folder, by_hand(kind), copy.deepcopy(model), args={"remove_unused_columns": False, **args}, **options
    )


def ours(folder, kind, model, data, **options):
    options = {"data": data, "evaluated": data, "collator": collate_hard, "task": GIVEN.get(kind), **options}
    return trained(folder, Ours, copy.deepcopy(model), **options)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_soft_labels_and_weights_train_as_by_hand_in_however_many_parts(tmp_path, kind, members):
    model, data = model_of(kind), rows_of(kind)
    theirs = reference(tmp_path, kind, model, data, per_device_train_batch_size=8, logging_steps=1)
    strategy = DelayedEnsemble(members=2, variance=0.0, ensemble_from=0.4) if members > 1 else Default()
    parts = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "logging_steps": 1}
    trainer = ours(tmp_path, kind, model, data, args=parts, strategy=strategy)
    assert apart(trainer, theirs, model) < 1e-11
    assert members == 1 or trainer.engine_plan.engine == "stacked"
    logged = [[each["loss"] for each in run.state.log_history if "loss" in each] for run in (trainer, theirs)]
    assert logged[0] == pytest.approx(logged[1], abs=2e-4)  # rounded


@pytest.mark.parametrize("members", [1, 2])
def test_soft_labels_in_bf16_train_as_by_hand(tmp_path, members, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # where transformers 4 leaves it for whatever comes next
    model, data = model_of("single_label").float(), rows_of("single_label")
    theirs = reference(tmp_path, "single_label", model, data, bf16=True)
    strategy = DelayedEnsemble(members=2, variance=0.0, ensemble_from=0.4) if members > 1 else Default()
    trainer = ours(tmp_path, "single_label", model, data, args={"bf16": True}, strategy=strategy)
    assert apart(trainer, theirs, model) < 1e-6


def without(data, *names):
    return [{key: value for key, value in row.items() if key not in names} for row in data]


def one_hot(kind, data):
    """The labels of rows as targets."""
    if kind in ("multi_label", "regression"):
        return [{**row, "soft_labels": np.atleast_1d(row["labels"]).tolist(), "sample_weight": 1.0} for row in data]
    each = {-100: [0.0] * 3, **dict(enumerate(np.eye(3).tolist()))}
    return [
        {
            **row,
            "soft_labels": [each[at] for at in row["labels"]] if kind == "token" else each[row["labels"]],
            "sample_weight": 1.0,
        }
        for row in data
    ]


CLASS_WEIGHTS = [("single_label", [1.0, 8.0, 0.3]), ("token", [1.0, 8.0, 0.3])]


@pytest.mark.parametrize(("kind", "weights"), [*((kind, None) for kind in KINDS), *CLASS_WEIGHTS])
def test_one_hot_targets_and_weights_of_1_are_the_labels(tmp_path, kind, weights):
    model, data = model_of(kind), rows_of(kind)
    options = {} if weights is None else {"class_weights": torch.tensor(weights, dtype=torch.float64)}
    hard = ours(tmp_path, kind, model, without(data, "soft_labels", "sample_weight"), **options)
    assert apart(ours(tmp_path, kind, model, one_hot(kind, data), **options), hard, model) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_weights_without_soft_labels_weigh_the_labels(tmp_path, kind):
    model, data = model_of(kind), rows_of(kind)
    targets = zip(one_hot(kind, data), data, strict=True)
    as_targets = [{**row, "sample_weight": weighted["sample_weight"]} for row, weighted in targets]
    theirs = reference(tmp_path, kind, model, as_targets)
    assert apart(ours(tmp_path, kind, model, without(data, "soft_labels")), theirs, model) < 1e-11


@pytest.mark.parametrize("kind", ["single_label", "token"])
@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_runs_with_a_dataset_each_learn_their_own_targets(tmp_path, kind, engine):
    sets = {seed: rows_of(kind, seed=seed) for seed in (3, 4)}

    def run(seeds, **options):
        data = [sets[seed] if engine == "loop" else Dataset.from_list(sets[seed]) for seed in seeds]
        return trained(
            tmp_path, PopulationTrainer, None, model_init=lambda: model_of(kind), seeds=seeds,
            data=data, evaluated=data, strategy=DelayedEnsemble(members=2), **options,
        )  # fmt: skip

    pack = run([3, 4], engine=engine)
    assert pack.engine_plan.engine == engine
    for at, seed in enumerate((3, 4)):
        alone = run([seed])
        for member in range(2):
            together, single = pack.population.member(2 * at + member), alone.population.member(member)
            assert max(float((together[name] - single[name]).abs().max()) for name in single) < 1e-11


# ---- the rest of a training ------------------------------------------------------------------------------------------


def texts(count=16, seed=1, words=9):
    """Rows of one length, which any collator takes."""
    draw = random.Random(seed)
    return [{**row, "input_ids": draw.choices(range(5, 60), k=words)} for row in rows_of("single_label", count, seed)]


@pytest.mark.parametrize("tuned", ["full", "lora"])
def test_adapters_and_the_active_vocabulary_learn_as_by_hand(tmp_path, tuned):
    model, data = model_of("single_label"), texts()
    if tuned == "lora":
        with global_generators(0):
            model = Lora(lora_r=4, lora_alpha=4, lora_dropout=0.0).apply(model).double()
    args = {"collator": default_data_collator, "args": {"learning_rate": 1.0}}
    theirs = trained(
        tmp_path, ReferenceSoft, copy.deepcopy(model), data=data, evaluated=data, collator=default_data_collator,
        args={"remove_unused_columns": False, "learning_rate": 1.0},
    )  # fmt: skip
    strategy = DelayedEnsemble(members=2, variance=0.0, ensemble_from=0.4)
    trainer = ours(tmp_path, "single_label", model, data, strategy=strategy, **args)
    assert (trainer.active_ids is not None, trainer.engine_plan.engine) == (True, "stacked")
    assert apart(trainer, theirs, model) < 1e-11


STRATEGIES = {
    "r_drop": RDrop(),
    "multi_dropout": MultiDropout(dropout_samples=2),
    "input_noise": InputNoise(),
    "mixout+deni": Mixout() + DENI(members=2),
    "ensemble": Ensemble(members=2),
    "linear_probe+refit": LinearProbe() + Refit(),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_one_hot_targets_are_the_labels_with_every_strategy(tmp_path, name):
    def with_dropout():
        with global_generators(0):
            return BertForSequenceClassification(BertConfig(**CONFIG)).double()

    def run(data):
        options = {"data": data, "collator": collate_hard, "strategy": STRATEGIES[name], "model_init": with_dropout}
        return trained(tmp_path, PopulationTrainer, None, args={"max_steps": 12}, **options)

    data = rows_of("single_label")
    hard, soft = run(without(data, "soft_labels", "sample_weight")), run(one_hot("single_label", data))
    for one, other in zip(moved(hard), moved(soft), strict=True):
        assert max(float((one[key] - other[key]).abs().max()) for key in one) < 1e-12


@pytest.mark.parametrize("kind", ["single_label", "token"])
def test_a_resumed_training_is_not_stopped(tmp_path, kind):
    def run(resume=None):
        data = [rows_of(kind, seed=seed) for seed in (3, 4)]
        args = {"save_strategy": "steps", "save_steps": 5, "gradient_accumulation_steps": 2, "max_steps": 12}
        return trained(
            tmp_path, PopulationTrainer, None, resume=resume, model_init=lambda: model_of(kind), seeds=[3, 4],
            data=data, evaluated=data, strategy=DENI(members=2), args=args,
        )  # fmt: skip

    whole = moved(run())
    resumed = moved(run(str(tmp_path / "checkpoint-5")))
    assert all(torch.equal(one[name], other[name]) for one, other in zip(whole, resumed, strict=True) for name in one)


def test_evaluations_are_of_hard_labels(tmp_path):
    model, data = model_of("single_label"), rows_of("single_label")
    trainer = ours(tmp_path, "single_label", model, data)
    hard = without(data, "soft_labels", "sample_weight")
    logits = torch.tensor(trainer.predict(hard).predictions)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([row["labels"] for row in data]))
    assert trainer.evaluate()["eval_loss"] == trainer.evaluate(hard)["eval_loss"]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("removes", [True, False])
def test_the_columns_never_reach_the_model(tmp_path, removes):
    seen, data = set(), texts()
    model = model_of("single_label")
    model.register_forward_pre_hook(lambda _, args, inputs: seen.update(inputs), with_kwargs=True)
    args = {"remove_unused_columns": removes, "eval_strategy": "epoch"}
    options = {"collator": default_data_collator, "args": args, "strategy": LinearProbe() + DENI(members=2)}
    trained(tmp_path, Ours, model, data=data, evaluated=data, **options)
    assert seen == {"input_ids"}


def test_a_column_that_the_model_takes_is_the_models(tmp_path):
    class Weighted(BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, labels=None, sample_weight=None):
            logits = super().forward(input_ids=input_ids, attention_mask=attention_mask).logits
            loss = None
            if labels is not None:
                losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
                loss = (losses * sample_weight).sum()
            return SequenceClassifierOutput(loss=loss, logits=logits)

    model = without_dropout(Weighted(model_of("single_label").config).double())
    data, collator = without(texts(), "soft_labels"), default_data_collator
    options = {"data": data, "evaluated": data, "collator": collator, "args": {"learning_rate": 0.03}}
    theirs = trained(tmp_path, Reference, copy.deepcopy(model), **options)
    assert apart(trained(tmp_path, Ours, copy.deepcopy(model), **options), theirs, model) == 0


class OursSoft(Ours):
    kind = "single_label"
    compute_loss = ReferenceSoft.compute_loss


def test_an_overridden_compute_loss_gets_all_columns_where_none_is_removed(tmp_path):
    model, data = model_of("single_label"), rows_of("single_label")
    options = {"data": data, "evaluated": data, "collator": collate_soft, "args": {"remove_unused_columns": False}}
    theirs = trained(tmp_path, ReferenceSoft, copy.deepcopy(model), **options)
    assert apart(trained(tmp_path, OursSoft, copy.deepcopy(model), **options), theirs, model) == 0


def test_augmented_texts_have_the_targets_and_weights_of_their_seeds(tmp_path, model_folder):
    tokenizer = load_tokenizer(model_folder)
    given = Texts(["refund money", "parcel late"], ["a", "b"], "t.csv", None,
                  soft=np.array([[0.7, 0.3], [0.4, 0.6]]), weights=np.array([0.5, 2.0]))  # fmt: skip
    pd.DataFrame({"seed": given.texts, "text": ["money back", "late parcel"]}).to_csv(tmp_path / "a.csv", index=False)
    setup = Setup(None, tokenize(given, tokenizer, 8, ["a", "b"]), tokenizer, Sources(0))
    train = Augmentation(1, str(tmp_path / "a.csv")).prepare(setup).train
    assert train["text"][2:] == ["money back", "late parcel"]
    assert list(train["soft_labels"]) == [*given.soft.tolist(), *given.soft.tolist()]
    assert list(train["sample_weight"]) == [0.5, 2.0, 0.5, 2.0]


# ---- collators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
def test_words_are_padded_as_their_labels(model_folder, side):
    tokenizer = load_tokenizer(model_folder)
    tokenizer.padding_side = side
    rows = rows_of("token", 5)
    for row in rows:
        row["labels"] = [int(np.argmax(each)) for each in row["soft_labels"]]
    batch = SoftCollator(DataCollatorForTokenClassification(tokenizer), ("soft_labels", "sample_weight"), side)(rows)
    there = batch["labels"] != -100
    assert batch["soft_labels"].shape == (*there.shape, 3)
    assert torch.equal(batch["soft_labels"][there].argmax(-1), batch["labels"][there])
    assert not batch["soft_labels"][~there].any()
    assert batch["sample_weight"].tolist() == [row["sample_weight"] for row in rows]


def test_a_collator_that_pads_and_one_of_pairs_hand_the_columns_on(model_folder):
    tokenizer, rows = load_tokenizer(model_folder), rows_of("single_label", 5)
    pairs = [{**row, "input_ids": [[each, each] for each in row["input_ids"]]} for row in rows]
    soft = torch.tensor([row["soft_labels"] for row in rows])
    for inner, given in ((DataCollatorWithPadding(tokenizer), rows), (PairCollator(tokenizer), pairs)):
        batch = SoftCollator(inner, ("soft_labels",))(without(given, "sample_weight"))
        assert torch.equal(batch["soft_labels"], soft)
        assert batch["labels"].tolist() == [row["labels"] for row in rows]


def test_a_collator_that_changes_the_rows_is_refused(tmp_path):
    def twice(features):
        return collate_hard([*features, *features])

    with pytest.raises(SettingError, match="makes 8 of 4 rows"):
        ours(tmp_path, "single_label", model_of("single_label"), rows_of("single_label"), collator=twice)


# ---- what is refused -------------------------------------------------------------------------------------------------

GOOD = {"soft_labels": [0.2, 0.3, 0.5], "sample_weight": 1.0}
WRONG = {
    "sum": ("single_label", {"soft_labels": [0.2, 0.3, 0.4]}, r"train_dataset\[1\]: soft_labels sum to 0.9"),
    "range": ("single_label", {"soft_labels": [-0.2, 0.7, 0.5]}, r"soft_labels have -0.2: give probabilities"),
    "several": ("multi_label", {"soft_labels": [0.2, 1.5, 0.5]}, r"soft_labels have 1.5: give probabilities"),
    "nan": ("ordinal", {"soft_labels": [float("nan"), 0.5, 0.5]}, r"soft_labels are not finite"),
    "shape": ("single_label", {"soft_labels": [0.5, 0.5]}, r"soft_labels have shape \(2,\), not \(3,\)"),
    "words": ("single_label", {"soft_labels": "very"}, r"soft_labels: 'very' where numbers were expected"),
    "negative": ("single_label", {"sample_weight": -1.0}, r"train_dataset\[1\]: sample_weight is -1"),
    "infinite": ("regression", {"sample_weight": float("inf")}, r"sample_weight is inf"),
    "list": ("single_label", {"sample_weight": [1.0]}, r"sample_weight has shape \(1,\)"),
    "tokens": ("token", {"soft_labels": [[0.2, 0.3, 0.5]]}, r"soft_labels have shape \(1, 3\), not \(\d, 3\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_target_or_weight_is_refused_before_the_first_step(tmp_path, case):
    kind, change, message = WRONG[case]
    data = rows_of(kind, 6)
    data[1] |= change
    with pytest.raises(SettingError, match=message):
        ours(tmp_path, kind, model_of(kind), data)


def test_weights_that_are_all_0_are_refused(tmp_path):
    data = [{**row, "sample_weight": 0.0} for row in rows_of("single_label", 6)]
    with pytest.raises(SettingError, match="every sample_weight is 0"):
        ours(tmp_path, "single_label", model_of("single_label"), data)


def test_targets_of_some_seeds_only_are_refused(tmp_path):
    data = [rows_of("single_label", 6), without(rows_of("single_label", 6), "soft_labels")]
    init = {"model_init": lambda: model_of("single_label"), "seeds": [1, 2]}
    with pytest.raises(SettingError, match=r"train_dataset\[0\] has the column soft_labels, train_dataset.1. has not"):
        trained(tmp_path, PopulationTrainer, None, data=data, evaluated=data, **init)


class Doubled(Ours):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True)
        return (2 * loss, outputs) if return_outputs else 2 * loss


CONFLICTS = {
    "function": (Ours, {"compute_loss_func": len}, "cannot be combined with compute_loss_func"),
    "smoothing": (Ours, {"args": {"label_smoothing_factor": 0.1}}, "cannot be combined with label smoothing"),
    "overridden": (Doubled, {}, "cannot be combined with an overridden compute_loss"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_another_loss_is_refused(tmp_path, case):
    cls, options, message = CONFLICTS[case]
    with pytest.raises(SettingError, match=f"soft_labels and sample_weight {message}"):
        trained(tmp_path, cls, model_of("single_label"), data=rows_of("single_label", 6), **options)


def test_a_models_own_loss_is_refused(tmp_path):
    class Own(BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, labels=None):
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)

    model = Own(model_of("single_label").config).double()
    with pytest.raises(SettingError, match=r"soft_labels and sample_weight need a loss .*Own computes its own loss"):
        trained(tmp_path, Ours, model, data=rows_of("single_label", 6))


def test_a_language_model_is_refused(tmp_path):
    model = BertForMaskedLM(BertConfig(**CONFIG)).double()
    data = [{**row, "labels": row["input_ids"]} for row in texts(6)]
    with pytest.raises(SettingError, match="predictions of BertForMaskedLM have no vote"):
        trained(tmp_path, Ours, model, data=data, evaluated=data, collator=default_data_collator)


def test_a_task_of_the_users_that_does_not_take_them_is_refused(tmp_path, monkeypatch):
    class Plain(SingleLabel):
        name = "plain"

        def member_losses(self, logits, labels, members, weight=None):
            return super().member_losses(logits, labels, members, weight)

    monkeypatch.setitem(TASKS, "plain", Plain())
    with pytest.raises(SettingError, match="the loss of task plain does not take soft_labels and sample_weight"):
        ours(tmp_path, "plain", model_of("single_label"), rows_of("single_label", 6), task="plain")


class Stream(IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return iter(self.data)


@pytest.mark.parametrize("change", [{"soft_labels": [0.5, 0.6, 0.1]}, {"sample_weight": -1.0}])
def test_a_stream_is_looked_at_batch_by_batch(tmp_path, change):
    model, data = model_of("single_label"), rows_of("single_label", 8)
    args = {"max_steps": 2, "dataloader_pin_memory": False}
    whole = reference(tmp_path, "single_label", model, data, max_steps=2)

    def learned(rows):
        options = {"data": Stream(rows), "collator": collate_hard, "evaluated": data, "args": args}
        return trained(tmp_path, PopulationTrainer, copy.deepcopy(model), **options)

    assert apart(learned(data), whole, model) < 1e-11
    with pytest.raises(SettingError, match=f"a row of the training set: {next(iter(change))}"):
        learned([*data[:5], {**data[5], **change}])


def test_probabilities_of_several_labels_are_known_by_the_labels(tmp_path):
    model, data = model_of("multi_label"), rows_of("multi_label", 8)
    expected = ours(tmp_path, "multi_label", model, data)
    model.config.problem_type = None  # as transformers has it, until labels show it
    assert apart(ours(tmp_path, "multi_label", model, data), expected, model) == 0
