"""The model card on the hub: what the hub reads of a model, above what people read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deni.artifact.folder import CARD
from deni.artifact.model_card import card, escaped, in_code
from deni.artifact.publishable import is_of_this_machine
from deni.data import DATASETS
from deni.hub.names import hub_id
from deni.outputs import LIST
from deni.outputs.folders import listed
from deni.tasks import DEFAULT, TASKS
from deni.tasks.metrics import called

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

    from deni.artifact.publishable import Publishable

# Our name of a metric -> that on the hub, and the arguments with which `evaluate` computes it.
_METRICS: dict[str, tuple[str, dict[str, Any]]] = {
    "macro_f1": ("f1", {"average": "macro"}),
    "micro_f1": ("f1", {"average": "micro"}),
    "mcc": ("matthews_correlation", {}),
    "pearson": ("pearsonr", {}),
    "spearman": ("spearmanr", {}),
    "rmse": ("mse", {"squared": False}),
    "mean_absolute_error": ("mae", {}),
    "entity_f1": ("f1", {"of": "entities"}),
    "entity_precision": ("precision", {"of": "entities"}),
    "entity_recall": ("recall", {"of": "entities"}),
}
_LIBRARY = {"artifact": "deni", "adapter": "peft", "modules": "sentence-transformers", "model": "transformers"}
_LICENSE = ("license", "license_name", "license_link")


def hub_card(
    name: str,
    model: Publishable,
    *,
    labels: Sequence[str] = (),
    task: str | None = None,
    outputs: int | None = None,
    dataset: str | None = None,
    language: Sequence[str] = (),
    license: str | None = None,
    base_card: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    exported: ModelCardData | None = None,
) -> str:
    """The card, in Markdown with YAML above.

    Args:
        name: `user/name`.
        labels, task: of a model that is not an artifact, where they are known.
        outputs: of an adapter.
        dataset: the hub id of what it was trained and measured on; None for what the artifact says.
        language: codes, such as `en`; none for those of the base model.
        license: of the model; None for that of the base model.
        base_card: the data of the base model's card.
        measured: of what the artifact of an exported model says in `deni.json`, what holds for that model.
        exported: the data of the card that was exported with the model.
    """
    from huggingface_hub import ModelCard, ModelCardData

    base_card, info = base_card or {}, model.info
    about = info or measured or {}
    kind = TASKS[info.get("task") or task or DEFAULT]
    language = list(language) or base_card.get("language") or []
    licenses = {key: base_card[key] for key in _LICENSE if base_card.get(key)}
    known = dataset or _dataset_of(about) or _dataset_on(exported)
    results = list(_results(about, known))
    for each in (exported and exported.eval_results) or ():
        if dataset is not None:
            each.dataset_type = each.dataset_name = dataset
        results.append(each)
    data = ModelCardData(
        model_name=name.rpartition("/")[2] if results else None,
        library_name=_LIBRARY[model.kind],
        pipeline_tag=kind.pipeline,
        tags=["deni", kind.pipeline],
        base_model=model.base,
        language=language or None,
        **({"license": license} if license else licenses),
        datasets=[known] if known else None,
        eval_results=results or None,
    )
    if model.kind == "artifact":
        body = card(name, info).split("---\n", 2)[2].strip()
    else:
        body = "\n".join(_plain_body(name, model, kind.model_is, labels, outputs))
    parts = [body, _intended_use(kind.chooses, info.get("labels") or labels, language), _origin(model, base_card)]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, parts)) + "\n"))


def of_export(info: Mapping[str, Any], merged: bool) -> dict[str, Any]:
    """Of `deni.json`, what was measured and on which texts, as far as it holds for one model.

    Args:
        merged: whether that is the mean of several members, of which the folds of a cross-validation tell alone.
    """
    kept = {name: info[name] for name in ("task", "seeds", "metrics", "cross_validation") if name in info}
    kept["data"] = {name: value for name, value in info.get("data", {}).items() if not is_of_this_machine(value)}
    if merged:
        kept.pop("metrics", None)
        estimated = kept.pop("cross_validation", {})
        if "merged" in estimated:
            of_folds = {name: estimated[name] for name in ("folds", "metric", "confidence", "trained_on")}
            kept["cross_validation"] = {**of_folds, **estimated["merged"]}
    return kept


def exported_card(folder: Path) -> ModelCardData | None:
    """The data of the card that was exported with a model; None for what deni did not export, or a damaged card."""
    from huggingface_hub import ModelCard

    if CARD not in listed(folder, LIST):
        return None
    try:
        return ModelCard.load(folder / CARD).data
    except Exception:  # whoever has edited it may have left anything
        return None


def _dataset_of(info: Mapping[str, Any]) -> str | None:
    """The hub id of the dataset of an artifact; None for a file."""
    named = info.get("data", {}).get("data")
    if named in DATASETS:
        return DATASETS[named].hub
    found = hub_id(named)
    return found if found and "/" in found else None


def _dataset_on(card: ModelCardData | None) -> str | None:
    """The dataset that a card names."""
    named = card.datasets if card is not None else None
    return hub_id(named[0]) if isinstance(named, list) and named else None


def _results(info: Mapping[str, Any], dataset: str | None) -> Iterator[EvalResult]:
    """What was measured, as the hub's `model-index` has it."""
    if info.get("onnx", {}).get("int8"):  # measured before the weights were rounded
        return
    task, data, metrics = TASKS[info.get("task") or DEFAULT], info.get("data", {}), info.get("metrics", {})
    of_all = {
        "task_type": task.pipeline,
        "task_name": f"{task.pipeline.replace('-', ' ')} ({task.name})",
        "dataset_type": dataset or "local",
        "dataset_name": dataset or "texts that are not published",
        "dataset_config": data.get("config_name"),
    }
    seeds = {"seeds": info["seeds"]} if info.get("seeds") else {}
    for name in task.metrics:
        if isinstance(value := metrics.get(name), int | float):
            texts = metrics.get("test_texts")
            given = {**seeds, **({"texts": texts} if texts else {}), **_interval(name, value, texts)}
            yield _result(name, value, given, {**of_all, "dataset_split": "test"})
    estimated = info.get("cross_validation", {})
    if "score" in estimated:
        given = {
            **seeds,
            "folds": estimated["folds"],
            "interval": [estimated["low"], estimated["high"]],
            "confidence": estimated["confidence"],
        }
        split = f"cross-validation in {estimated['folds']} folds"
        yield _result(estimated["metric"], estimated["score"], given, {**of_all, "dataset_split": split})


def _result(name: str, value: float, given: Mapping[str, Any], of_all: Mapping[str, Any]) -> EvalResult:
    from huggingface_hub import EvalResult

    kind, arguments = _METRICS.get(name, (name, {}))
    return EvalResult(
        metric_type=kind,
        metric_name=called(name),
        metric_value=round(float(value), 6),
        metric_args={**arguments, **given} or None,
        **of_all,
    )


def _interval(name: str, value: float, texts: Any) -> dict[str, Any]:
    """The 95 % interval of an accuracy, by Wilson; other metrics of a test split have none here."""
    if name != "accuracy" or not isinstance(texts, int) or texts < 1:
        return {}
    from scipy.stats import binomtest

    ends = binomtest(round(value * texts), texts).proportion_ci(0.95, method="wilson")
    return {"interval": [round(float(ends.low), 6), round(float(ends.high), 6)], "confidence": 0.95}


def _plain_body(
    name: str, model: Publishable, model_is: str, labels: Sequence[str], outputs: int | None
) -> Iterator[str]:
    """What a model is that deni has exported, or that another library has made, and how to load it."""
    what = {"adapter": "A PEFT adapter of", "modules": "A sentence-transformers model,", "model": f"{model_is},"}
    made = f"{model.base or 'the model that adapter_config.json names'}, " if model.kind == "adapter" else ""
    yield f"# {escaped(name)}\n"
    yield f"{what[model.kind]} {made}fine-tuned with [deni](https://arxiv.org/abs/2406.12471).\n"
    if labels:
        yield f"- Outputs: {', '.join(in_code(label) for label in labels)}"
    if model.base and model.kind != "adapter":
        yield f"- Base model: {escaped(model.base)}"
    yield "\n```python"
    quoted = json.dumps(name)
    if model.kind == "adapter":
        kind = "Token" if "token" in model_is.lower() else "Sequence"
        if labels:  # in its config.json
            yield f'import deni\n\nclassifier = deni.load({quoted})\nclassifier(["a text"])\n```\n\nWith PEFT alone:\n'
            yield "```python"
        yield f"from peft import AutoPeftModelFor{kind}Classification\n"
        numbered = f", num_labels={outputs}" if outputs else ""
        yield f"model = AutoPeftModelFor{kind}Classification.from_pretrained({quoted}{numbered})"
    elif model.kind == "modules":
        yield f"from sentence_transformers import SentenceTransformer\n\nmodel = SentenceTransformer({quoted})"
    else:
        yield f'import deni\n\nclassifier = deni.load({quoted})\nclassifier(["a text"])'
    yield "```"


def _intended_use(chooses: bool, labels: Sequence[str], language: Any) -> str:
    """What the model is for, as far as its training tells."""
    languages = [language] if isinstance(language, str) else list(language)
    spoken = f", in {', '.join(map(escaped, languages))}" if languages else ""
    what = "values" if not chooses else "the labels above" if labels else "labels"
    return (
        "## Intended use\n\n"
        f"To give new texts {what}, where they are like those it was trained on{spoken}. Other texts get an answer, "
        "too, which means nothing: measure it on labeled texts of your own first. It may repeat what is unfair in its "
        "training texts; do not decide about people by it alone."
    )


def _origin(model: Publishable, base_card: Mapping[str, Any]) -> str:
    """Where it comes from, and under which license."""
    if not model.base:
        return ""
    license = base_card.get("license")
    license = base_card.get("license_name", license) if license == "other" else license
    return f"## Base model\n\n{escaped(model.base)}" + (f", license: {escaped(license)}" if license else "") + "."
