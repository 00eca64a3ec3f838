"""The folder of an adapted encoder: what transformers reads, what sentence-transformers reads, where it comes from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from deni.adaptation.result import Adaptation
from deni.adaptation.starting import Start
from deni.artifact.model_card import escaped, in_code
from deni.models.hugging_face import hugging_face
from deni.models.loading import quiet_loading
from deni.outputs import write_list

PROVENANCE, CARD = "adaptation.json", "README.md"


def write_encoder(
    target: Path,
    model: nn.Module,
    start: Start,
    tokenizer: PreTrainedTokenizerBase,
    provenance: Mapping[str, Any],
    card: str,
) -> None:
    """Write a model into an empty folder.

    Args:
        model: with the weights to write; of the class of `start`.
        tokenizer: as it was read, for it remembers how it was last used.
        provenance: JSON values.
        card: the model card.
    """
    state = {name: value for name, value in model.state_dict().items() if name not in start.lacking}
    with quiet_loading(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hugging_face(model).save_pretrained(target, state_dict={**state, **start.kept})
    tokenizer.save_pretrained(target)
    for name, content in start.files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(content, encoding="utf-8")
    text = json.dumps(dict(provenance), indent=1, ensure_ascii=False)
    (target / PROVENANCE).write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")
    (target / CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
    write_list(target)


def card_of(name: str, found: Adaptation, provenance: Mapping[str, Any]) -> str:
    """The model card, in Markdown.

    Args:
        name: of the folder.
    """
    model, pool, texts = provenance["model"], provenance["pool"], found.texts
    digest = f" (SHA-256 {in_code(pool['sha256'])})" if pool.get("sha256") else ""
    test = provenance.get("test")
    guard = (
        f"{texts['left_out_test']:,} of its texts are in {escaped(test['source'])} and were left out"
        if test
        else "No test texts were named, so none were left out: a score on texts of this pool is not one on new texts"
    )
    came = f"The loss on {texts['held_out']:,} texts held out "
    if found.improved:
        came += f"went from {found.before:.4g} to {found.after:.4g}, at step {found.best_step:,} of {found.steps:,}."
    else:
        came += f"never fell below {found.before:.4g}, that of the model as it was, in {found.steps:,} steps: "
        came += "**these are its weights, unchanged**."
    versions = ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
    settings = ", ".join(f"{key} {value}" for key, value in found.settings.items())
    return f"""---
library_name: transformers
tags: [deni, task-adaptive-pretraining]
---

# {escaped(name)}

{escaped(model)}, adapted to unlabeled texts with `deni adapt`. It has no output layer for labels: `deni train FILE
--model {escaped(name)}` trains one.

- Base model: {escaped(model)}
- Texts: {escaped(pool["source"])}{digest}: {texts["trained_on"]:,} trained on, {texts["held_out"]:,} held out, of
  {texts["read"]:,}; {texts["left_out_repeated"]:,} repeated and
  {texts["left_out_empty"]:,} empty ones were left out
- Test texts: {guard}
- Objective: {provenance["objective"]["title"]} ({provenance["objective"]["source"]})
- Settings: {escaped(settings)}
- Versions: {escaped(versions)}

{came} [{PROVENANCE}]({PROVENANCE}) has all losses.
"""
