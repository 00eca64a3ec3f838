"""Every field of TrainingArguments acts as in Trainer, is refused, or has no meaning, as docs/trainer.md has it."""

import copy
import dataclasses
import json
import re
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from deni.errors import SettingError
from deni.strategies import DelayedEnsemble, Ensemble
from deni.training.arguments import REFUSED
from deni.training.trainer import PopulationTrainer
from tests.helpers.trainers import pad

FIELDS = [field.name for field in dataclasses.fields(TrainingArguments)]
PAGE = Path(__file__).parents[2] / "docs/trainer.md"
TABLE = dict(re.findall(r"^\| `(\w+)` \| (acts|refused|no meaning) \|", PAGE.read_text(), flags=re.M))
NEW = int(transformers.__version__.split(".")[0]) >= 5
SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
DROPS = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BASE = {
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "num_train_epochs": 2,
    "train_sampling_strategy": "sequential",
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "logging_steps": 2,
    "optim": "adamw_torch",
}
SGD = {"optim": "sgd"}
EVERY = {"eval_strategy": "steps", "eval_steps": 2}
SAVED = {**EVERY, "save_strategy": "steps", "save_steps": 2}
BEST = {**SAVED, "load_best_model_at_end": True, "metric_for_best_model": "accuracy"}
COUNTING = {"include_num_input_tokens_seen": "all"}

LOADING = {
    "dataloader_num_workers": 1,
    "dataloader_pin_memory": False,
    "dataloader_persistent_workers": True,
    "dataloader_prefetch_factor": 3,
    "dataloader_multiprocessing_context": "fork",
    "dataloader_in_order": False,
}

# field -> settings that differ in this field, and those that they are compared with.
CASES = {
    "per_device_train_batch_size": ({"per_device_train_batch_size": 5}, {}),
    "num_train_epochs": ({"num_train_epochs": 1}, {}),
    "max_steps": ({"max_steps": 5}, {}),
    "dataloader_drop_last": ({"dataloader_drop_last": True}, {}),
    "learning_rate": ({"learning_rate": 1e-3}, {}),
    "lr_scheduler_type": ({"lr_scheduler_type": "cosine"}, {}),
    "lr_scheduler_kwargs": (
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 3}},
        {"lr_scheduler_type": "cosine_with_restarts"},
    ),
    "warmup_steps": ({"warmup_steps": 3}, {}),
    "optim": ({"optim": "adafactor"}, {}),
    "optim_args": ({**SGD, "optim_args": "momentum=0.9"}, SGD),
    "weight_decay": ({"weight_decay": 0.3}, {}),
    "adam_beta1": ({"adam_beta1": 0.5}, {}),
    "adam_beta2": ({"adam_beta2": 0.5}, {}),
    "adam_epsilon": ({"adam_epsilon": 1e-3}, {}),
    "max_grad_norm": ({"max_grad_norm": 0.1}, {}),
    "label_smoothing_factor": ({"label_smoothing_factor": 0.3}, {}),
    "bf16": ({"bf16": True}, {}),
    "bf16_full_eval": ({**EVERY, "bf16_full_eval": True}, EVERY),
    "fp16_full_eval": ({**EVERY, "fp16_full_eval": True}, EVERY),
    "use_cache": ({"use_cache": True}, {}),
    "eval_strategy": ({"eval_strategy": "epoch"}, {}),
    "eval_steps": ({**EVERY, "eval_steps": 3}, EVERY),
    "eval_delay": ({**EVERY, "eval_delay": 3}, EVERY),
    "eval_on_start": ({**EVERY, "eval_on_start": True}, EVERY),
    "per_device_eval_batch_size": (
        {**EVERY, "per_device_eval_batch_size": 2},
        {**EVERY, "per_device_eval_batch_size": 3},
    ),
    "prediction_loss_only": ({**EVERY, "prediction_loss_only": True}, EVERY),
    "metric_for_best_model": ({**BEST, "metric_for_best_model": "loss"}, BEST),
    "greater_is_better": ({**BEST, "greater_is_better": False}, BEST),
    "load_best_model_at_end": (BEST, SAVED),
    "remove_unused_columns": ({"remove_unused_columns": False}, {}),
    "logging_strategy": ({"logging_strategy": "epoch"}, {}),
    "logging_steps": ({"logging_steps": 3}, {}),
    "logging_first_step": ({"logging_first_step": True}, {}),
    "include_num_input_tokens_seen": (COUNTING, {}),
    "save_strategy": ({"save_strategy": "epoch"}, {}),
    "save_steps": ({**SAVED, "save_steps": 3}, SAVED),
    "save_total_limit": ({**SAVED, "save_total_limit": 1}, SAVED),
    "save_only_model": ({**SAVED, "save_only_model": True}, SAVED),
}
# field that acts -> what shows it, or what it needs that is not here.
ELSEWHERE = {
    "tests/training/test_batches.py": ["train_sampling_strategy", "length_column_name", "data_seed", "group_by_length"],
    "tests/training/test_losses.py, test_trainer.py": ["gradient_accumulation_steps"],
    "tests/training/test_given.py": ["seed"],
    "tests/training/test_seed_metrics.py": ["eval_do_concat_batches", "include_for_metrics", "batch_eval_metrics"],
    "tests/training/test_resume.py": ["ignore_data_skip", "restore_callback_states_from_checkpoint"],
    "tests/training/test_processes.py": [
        "ddp_backend",
        "ddp_timeout",
        "local_rank",
        "average_tokens_across_devices",
        "save_on_each_node",
        "log_on_each_node",
        "log_level_replica",
        "eval_use_gather_object",
    ],
    "tests/training/test_trainer.py": [
        "activation_checkpointing",
        "activation_checkpointing_kwargs",
        "gradient_checkpointing",
        "gradient_checkpointing_kwargs",
    ],
    "tests/training/test_loggers.py": ["report_to", "run_name", "logging_dir"],
    "tests/training/test_saving.py": [
        "push_to_hub",
        "hub_token",
        "hub_private_repo",
        "hub_model_id",
        "hub_strategy",
        "hub_always_push",
        "hub_revision",
        "push_to_hub_model_id",
        "push_to_hub_organization",
        "push_to_hub_token",
    ],
    "every test": ["output_dir", "use_cpu", "disable_tqdm", "log_level", "skip_memory_metrics"],
    "below": [*LOADING, "label_names", "neftune_noise_alpha", "logging_nan_inf_filter"],
    "code of Trainer that nothing here replaces": ["full_determinism", "eval_accumulation_steps", "debug"],
    "a GPU": ["fp16", "tf32", "torch_empty_cache_steps"],
    "a compiler": ["torch_compile", "torch_compile_backend", "torch_compile_mode", "torchdynamo"],
    "a package": [
        "optim_target_modules",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
    ],
    "a signal": ["enable_jit_checkpoint"],
    "passed on to accelerate": ["accelerator_config"],
    "old names and what 4.57 alone has": [
        "adafactor",
        "warmup_ratio",
        "per_gpu_train_batch_size",
        "per_gpu_eval_batch_size",
        "include_inputs_for_metrics",
        "include_tokens_per_second",
        "use_legacy_prediction_loop",
        "no_cuda",
        "ray_scope",
    ],
}


def test_every_field_has_a_row():
    assert [field for field in FIELDS if field not in TABLE] == []


def test_every_field_that_acts_is_shown_somewhere():
    listed = [*CASES, *(field for fields in ELSEWHERE.values() for field in fields)]
    assert len(listed) == len(set(listed))
    assert {field for field in TABLE if TABLE[field] == "acts"} == set(listed)


def test_the_refused_rows_are_those_that_are_refused():
    assert {field for field, verdict in TABLE.items() if verdict == "refused"} == set(REFUSED) - {"optim"}


# ---- acts ------------------------------------------------------------------------------------------------------------


def model():
    return single().double()


def single():  # for autocast, which leaves float64 alone
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BertForSequenceClassification(BertConfig(**SIZES, **DROPS, num_labels=3))


def data(count=14, seed=0):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 60, (count, 6), generator=draw).tolist()
    return [{"input_ids": row, "attention_mask": [1] * 6, "labels": sum(row) % 3, "comment": 0} for row in ids]


class Collator:
    """Notes the columns that come to it."""

    def __init__(self):
        self.columns = set()

    def __call__(self, features):
        self.columns |= set(features[0])
        return pad(features)


class Batches(TrainerCallback):
    """Counts the batches of evaluations."""

    def __init__(self):
        self.count = 0

    def on_prediction_step(self, *_, **__):
        self.count += 1


def accuracy(prediction):
    right = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"accuracy": float(right.mean())}


OURS = re.compile("runtime|per_second|flos|preparation|^phase$|^members|member_steps|failed_runs|grad_norm")


def shown(trainer, weights):
    """What a training shows: weights, logs, scores, files and more."""
    lines = [{k: v for k, v in line.items() if not OURS.search(k)} for line in trainer.state.log_history]
    before, cache = weights(), trainer.model.config.use_cache
    trainer.args.eval_strategy = "no"
    scores = {key: value for key, value in trainer.evaluate().items() if not OURS.search(key)}
    folder = Path(trainer.args.output_dir)
    return {
        "weights": {name: value.double() for name, value in before.items()},
        "log": lines,
        "scores": scores,
        "best": (trainer.state.best_metric, trainer.state.best_global_step),
        "checkpoints": sorted(path.name for path in folder.glob("checkpoint-*")),
        "optimizers": sorted(path.parent.name for path in folder.glob("checkpoint-*/optimizer.pt")),
        "cache": cache,
        "dtypes": {value.dtype for value in weights().values()},
        "columns": trainer.collator.columns,
        "batches": trainer.batches.count,
    }


def trained(cls, settings, tmp, **options):
    args = TrainingArguments(str(tmp), **{**BASE, **settings})
    make = single if settings.get("bf16") else model
    extra = {"model": make()} if "seeds" not in options else {"model_init": make}
    collator, batches = Collator(), Batches()
    sets = {"train_dataset": data(), "eval_dataset": data(7, 1), "data_collator": collator, "callbacks": [batches]}
    trainer = cls(args=args, **extra, **sets, compute_metrics=accuracy, **options)
    trainer.collator, trainer.batches = collator, batches
    trainer.train()
    return trainer


@cache
def reference(settings):
    trainer = trained(Trainer, json.loads(settings), mkdtemp())
    return shown(trainer, lambda: {n: p.detach().clone() for n, p in trainer.model.named_parameters()})


def of_member(trainer, member):
    return {name: value.clone() for name, value in trainer.population.member(member).items()}


def differences(ours, theirs, rounding=1e-9):
    """Where two shown trainings differ."""
    same = ("checkpoints", "optimizers", "cache", "dtypes", "columns", "batches")
    found = [key for key in same if ours[key] != theirs[key]]
    if not all(
        torch.allclose(ours["weights"][name], value, rtol=0, atol=rounding) for name, value in theirs["weights"].items()
    ):
        found.append("weights")
    lines = [len(ours["log"]) == len(theirs["log"]) and ours["log"], theirs["log"]]
    if not lines[0] or any(not alike(*pair, rounding) for pair in zip(*lines, strict=True)):
        found.append("log")
    if not alike(ours["scores"], theirs["scores"], rounding):
        found.append("scores")
    if not np.allclose(
        *[[np.nan if x is None else x for x in each["best"]] for each in (ours, theirs)],
        equal_nan=True,
        rtol=0,
        atol=1e3 * rounding,
    ):
        found.append("best")
    return found


def alike(ours, theirs, rounding):
    """Trainer keeps losses in float32."""
    return ours.keys() == theirs.keys() and all(
        ours[key] == value or ours[key] == pytest.approx(value, abs=max(1e-5, 1e3 * rounding))
        for key, value in theirs.items()
    )


@pytest.mark.skipif(not NEW, reason="transformers 4.57 has no sampling in sequence")
@pytest.mark.parametrize("field", CASES)
def test_a_field_acts_as_in_trainer(tmp_path, field):
    settings, others = CASES[field]
    theirs, before = (reference(json.dumps(each)) for each in (settings, others))
    rounding = {"optim": 1e-6, "bf16": 2e-5, "bf16_full_eval": 1e-6, "fp16_full_eval": 1e-6}.get(field, 1e-9)
    one = trained(PopulationTrainer, settings, tmp_path / "one")
    assert differences(shown(one, lambda: of_member(one, 0)), theirs, rounding) == []
    pack = trained(PopulationTrainer, settings, tmp_path / "pack", seeds=[0, 1])
    expected = copy.deepcopy(theirs)
    for line in [*expected["log"], expected["scores"]]:
        if "num_input_tokens_seen" in line:
            line["num_input_tokens_seen"] *= 2  # of all runs
    weights = [of_member(pack, run) for run in (0, 1)]
    of_pack = shown(pack, lambda: of_member(pack, 0))
    of_pack["cache"] = expected["cache"]  # Trainer sets it in the model that it is made with, not in later ones
    for each in weights:
        of_run = {name: value.double() for name, value in each.items()}
        assert differences({**of_pack, "weights": of_run}, expected, rounding) == []
    assert differences(theirs, before, rounding) != []


@pytest.mark.skipif(not NEW, reason="transformers 4.57 has no sampling in sequence, and hides no such loss")
@pytest.mark.parametrize("hides", [True, False])
def test_a_non_finite_loss_of_an_evaluation_is_hidden_where_trainer_hides_it(tmp_path, hides):
    args = TrainingArguments(
        str(tmp_path), **{**BASE, "logging_nan_inf_filter": hides, "per_device_eval_batch_size": 2}
    )
    rows, losses = data(7, 1), []
    for cls in (Trainer, PopulationTrainer):
        model = single()
        with torch.no_grad():
            model.bert.embeddings.word_embeddings.weight[rows[0]["input_ids"][0]] = float("inf")
        trainer = cls(model, copy.copy(args), data_collator=pad, eval_dataset=rows)
        losses.append(trainer.evaluate()["eval_loss"])
        assert trainer.args.logging_nan_inf_filter is hides
    assert losses[1] == pytest.approx(losses[0], nan_ok=True)
    assert np.isfinite(losses[0]) == hides


@pytest.mark.skipif(not NEW, reason="transformers 4.57 has no sampling in sequence")
def test_noise_on_embeddings_is_that_of_trainer(tmp_path):
    theirs, before = (reference(json.dumps(each)) for each in ({"neftune_noise_alpha": 5.0}, {}))
    ours = trained(PopulationTrainer, {"neftune_noise_alpha": 5.0}, tmp_path)
    assert differences(shown(ours, lambda: of_member(ours, 0)), theirs) == []
    assert differences(theirs, before) != []


class Targeted(BertForSequenceClassification):
    """Its labels have a name that nobody would guess."""

    def forward(self, input_ids=None, attention_mask=None, target=None):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=target)


def targets(features):
    batch = pad(features)
    batch["target"] = batch.pop("labels")
    return batch


def test_labels_have_the_names_that_are_given(tmp_path):
    def new(cls):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            targeted = Targeted(BertConfig(**SIZES, **DROPS, num_labels=3)).double()
        settings = {**BASE, "label_names": ["target"], "remove_unused_columns": False}
        if not NEW:
            del settings["train_sampling_strategy"]
        args = TrainingArguments(str(tmp_path), **settings)
        sets = {"eval_dataset": data(7, 1), "data_collator": targets, "compute_metrics": accuracy}
        return cls(targeted, args, train_dataset=data(4), **sets)  # one batch: its order does not matter

    ours, theirs = new(PopulationTrainer), new(Trainer)
    ours.train()
    theirs.train()
    for name, value in theirs.model.named_parameters():
        assert torch.allclose(ours.population.member(0)[name], value, rtol=0, atol=1e-9)
    assert ours.evaluate()["eval_accuracy"] == theirs.evaluate()["eval_accuracy"]


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_rows_are_loaded_as_by_trainer(tmp_path, seeds):
    settings = {name: value for name, value in LOADING.items() if name in FIELDS}
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True, per_device_train_batch_size=4, **settings)
    ours = PopulationTrainer(None, args, model_init=model, seeds=seeds, train_dataset=data(), data_collator=pad)
    theirs = Trainer(model(), args, train_dataset=data(), data_collator=pad)
    loaders = ours.get_train_dataloader(), theirs.get_train_dataloader()
    for name in (name.removeprefix("dataloader_") for name in settings):
        values = [getattr(loader, name) for loader in loaders]
        assert str(values[0]).split(" at ")[0] == str(values[1]).split(" at ")[0], name
    assert ours.get_train_dataloader().num_workers == 1


# ---- refused ---------------------------------------------------------------------------------------------------------

VALUES = {
    "auto_find_batch_size": True,
    "fsdp": "full_shard",
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "parallelism_config": object(),
    "optim": "adalomo",
    "use_liger_kernel": True,
    "jit_mode_eval": True,
    "past_index": 1,
}


@pytest.mark.parametrize("field", VALUES)
def test_a_refused_field_gives_one_line_before_the_first_step(tmp_path, field):
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    late = PopulationTrainer(model(), args, train_dataset=data(), data_collator=pad)
    setattr(args, field, VALUES[field])
    with pytest.raises(SettingError, match=f"^{field} cannot be [^\n]+$"):
        PopulationTrainer(model(), args, train_dataset=data(), data_collator=pad)
    setattr(late.args, field, VALUES[field])
    with pytest.raises(SettingError, match=f"^{field} cannot be [^\n]+$"):
        late.train()
    assert late.state.global_step == 0


def test_orders_and_optimizers_that_forks_or_packs_cannot_follow_are_refused(tmp_path):
    args = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    args.optim = "schedule_free_adamw"
    with pytest.raises(SettingError, match="optim cannot be schedule_free_adamw with delayed_ensemble"):
        PopulationTrainer(model(), args, train_dataset=data(), strategy=DelayedEnsemble(members=2))
    args.optim, args.train_sampling_strategy = "adamw_torch", "batch_rebalance"
    with pytest.raises(SettingError, match="train_sampling_strategy cannot be batch_rebalance with several runs"):
        PopulationTrainer(None, args, model_init=model, train_dataset=data(), strategy=Ensemble(members=2))
