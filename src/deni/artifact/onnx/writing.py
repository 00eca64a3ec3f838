"""Write an artifact as one ONNX graph, with its tokenizer and `deni.json` beside it."""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deni.artifact.calibration import temperature_of
from deni.artifact.classifier import Classifier
from deni.artifact.folder import FOLDS, FORMAT, GRAPH, GRAPH_DATA
from deni.artifact.hub_card import of_export
from deni.artifact.onnx.graph import Form, VoteGraph
from deni.artifact.onnx.int8 import quantize
from deni.artifact.out_of_fold import FILE as OUT_OF_FOLD
from deni.artifact.out_of_fold import MERGED, VOTE
from deni.engine.layers import Unstackable
from deni.errors import InputError
from deni.models.hugging_face import config_of, with_peft
from deni.models.pooling import encoder_of
from deni.models.reading import reason
from deni.outputs import INFO, sizes
from deni.population import Merge, mean_of_members
from deni.provenance import digest_of_file, versions
from deni.tasks import TASKS

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("logits", "members")
_LARGE = 1_500_000_000  # bytes of weights from which on they are in a file of their own: a graph holds 2 GB at most
_CLOSE = 1e-4


@dataclass(frozen=True)
class Source:
    """What becomes a graph.

    Args:
        model: plain, in float32.
        values: what differs between members; nothing for a single model.
        forms: in which to try it.
    """

    model: nn.Module
    values: Mapping[str, Tensor]
    forms: tuple[Form, ...]

    def base(self) -> list[Tensor]:
        """The matrices of the encoder that all members share."""
        named = encoder_of(self.model).named_parameters()
        own = {id(self.model.get_parameter(name)) for name in self.values}
        return [value for _, value in named if value.dim() == 2 and id(value) not in own]


class GraphExport:
    """An artifact as an ONNX graph: made and compared with the model first, then written.

    Args:
        classifier: the artifact, on CPU in float32.
        folder: where it lies, for messages.
        mean: how the members become one model; None for the graph of their vote.
        int8: whether the weights that the members share are quantized.
        calibrated: whether the temperature of the artifact is in the graph.
        work: an empty folder for what is made.

    Raises:
        InputError: an architecture that cannot be exported, or nothing to quantize.
    """

    def __init__(
        self, classifier: Classifier, folder: Path, mean: Merge | None, int8: bool, calibrated: bool, work: Path
    ) -> None:
        self.classifier, self.folder, self.int8, self.work = classifier, folder, int8, work
        size = classifier.population.size
        self.merged = mean is not None and size > 1
        self.of_folds = mean is mean_of_members  # as the folds' members were merged
        predictor = MERGED if self.merged else VOTE
        self.temperature = temperature_of(classifier.info, predictor) if calibrated else None
        batches = [classifier.inputs_of(texts) for texts in _texts(classifier)]
        self.inputs = [name for name, value in batches[0].items() if isinstance(value, Tensor)]
        source = source_of(classifier, mean)
        if int8 and source.values and not source.base():
            raise InputError(
                f"{folder}: int8 quantizes the weights that the members share, and fully tuned ones share none: add "
                "--mean, or train with --tuning lora"
            )
        self._make(source, batches)

    def _make(self, source: Source, batches: Sequence[Mapping[str, Tensor]]) -> None:
        """Export in the first form that computes what the model does.

        Raises:
            InputError: none does.
        """
        expected = [self._reference(source, batch) for batch in batches]
        why = ""
        for form in source.forms:
            try:
                graph = self._graph(source, form)
                with _quiet(), torch.no_grad():
                    self._convert(graph, batches[0], source)
                found = [self._computed(batch) for batch in batches]
            except (MemoryError, OSError):  # of the machine, not of the model
                raise
            except Unstackable as error:
                why = str(error)
                continue
            except Exception as error:  # torch.export, onnxscript and onnxruntime have errors of their own
                why = reason(error)
                _leave_vmap()
                continue
            off = max(_difference(*pair) for pair in zip(found, expected, strict=True))
            if off <= _CLOSE:
                self.form = form
                break
            why = f"its outputs differ by {off:.2g}"
        else:
            name = type(source.model).__name__
            raise InputError(f"{self.folder} cannot be exported as onnx: {name}: {why}: use deni.load or deni predict")
        if self.int8:
            self._quantize(source)

    def _graph(self, source: Source, form: Form) -> VoteGraph:
        classifier = self.classifier
        # The stacked engine changes the model, and a later form begins anew.
        model = copy.deepcopy(source.model) if form != source.forms[-1] else source.model
        task, combine = TASKS[classifier.task], classifier.combine
        graph = VoteGraph(model, source.values, self.inputs, form, task, combine, self.temperature)
        return graph.eval()

    @torch.no_grad()
    def _reference(self, source: Source, batch: Mapping[str, Tensor]) -> tuple[np.ndarray, ...]:
        """What PyTorch computes, one member at a time."""
        form: Form = "unrolled" if source.values else "one"
        task, combine = TASKS[self.classifier.task], self.classifier.combine
        graph = VoteGraph(source.model, source.values, self.inputs, form, task, combine, self.temperature).eval()
        return self._of_tokens(tuple(each.numpy() for each in graph(*(batch[name] for name in self.inputs))), batch)

    def _of_tokens(self, outputs: tuple[np.ndarray, ...], batch: Mapping[str, Tensor]) -> tuple[np.ndarray, ...]:
        """The outputs that somebody reads: of words, not those of padding.

        A decoder's padding on the left sees no token at all, and what attention makes of that is up to the kernel.
        """
        if not TASKS[self.classifier.task].of_words:
            return outputs
        token = batch["attention_mask"].numpy().astype(bool)[:, :, None]  # (B, T, 1)
        votes, members = outputs
        return np.where(token, votes, 0.0), np.where(token[:, None], members, 0.0)

    def _convert(self, graph: VoteGraph, batch: Mapping[str, Tensor], source: Source) -> None:
        arguments = tuple(batch[name] for name in self.inputs)
        any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}  # texts, tokens
        exported = torch.export.export(graph, arguments, dynamic_shapes=((any_size,) * len(arguments),))
        program = torch.onnx.export(
            exported,
            dynamo=True,
            opset_version=OPSET,
            input_names=self.inputs,
            output_names=list(OUTPUTS),
            verbose=False,
        )
        assert program is not None
        program.save(self.work / GRAPH, external_data=self._large(source))

    def _computed(self, batch: Mapping[str, Tensor]) -> tuple[np.ndarray, ...]:
        import onnxruntime

        session = onnxruntime.InferenceSession(self.work / GRAPH, providers=["CPUExecutionProvider"])
        found = tuple(session.run(list(OUTPUTS), {name: batch[name].numpy() for name in self.inputs}))
        return self._of_tokens(found, batch)

    def _large(self, source: Source) -> bool:
        own = {id(value): value.nbytes for value in source.model.parameters()}
        return sum(own.values()) + sum(value.nbytes for value in source.values.values()) > _LARGE

    def _quantize(self, source: Source) -> None:
        small = self.work / "int8"
        small.mkdir()
        if not quantize(self.work / GRAPH, small / GRAPH, source.base(), self._large(source)):
            raise InputError(f"{self.folder}: no layer of {type(source.model).__name__} can be quantized: omit --int8")
        for name in (GRAPH, GRAPH_DATA):
            (self.work / name).unlink(missing_ok=True)
            if (small / name).exists():
                (small / name).rename(self.work / name)
        small.rmdir()

    def size(self) -> int:
        """Bytes of the folder, about."""
        return sum(sizes(self.work).values())

    def write(self, target: Path) -> None:
        """Write the folder."""
        classifier = self.classifier
        for name in sizes(self.work):
            shutil.copyfile(self.work / name, target / name)
        _write_tokenizer(classifier, target)
        config = copy.deepcopy(config_of(classifier.population.model))
        if config is not None:
            config.id2label = dict(enumerate(classifier.labels))
            config.label2id = {label: at for at, label in enumerate(classifier.labels)}
            config.save_pretrained(target)
        held = self.folder / OUT_OF_FOLD
        if held.is_file() and not self.merged:
            shutil.copyfile(held, target / OUT_OF_FOLD)
        info = self._info()
        info["onnx"] = {
            "inputs": self.inputs,
            "outputs": list(OUTPUTS),
            "opset": OPSET,
            "form": self.form,
            "int8": self.int8,
            "sha256": {name: digest_of_file(target / name) for name in (GRAPH, GRAPH_DATA) if (target / name).exists()},
        }
        info["files"] = sizes(target)
        text = json.dumps(info, indent=1, ensure_ascii=False)
        (target / INFO).write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")

    def _info(self) -> dict[str, Any]:
        """The content of `deni.json`: that of the artifact, without what a graph does not have."""
        classifier = self.classifier
        gone = {"plain", "files", "needs", "dtype", "scope", FOLDS}
        if self.merged:  # what was measured of the vote does not hold for the mean
            gone |= {"calibration", "abstention", "sets", "metrics", "cross_validation"}
        elif self.temperature is None:
            gone |= {"calibration"}
        here = versions()
        kept = {name: value for name, value in classifier.info.items() if name not in gone}
        if self.merged and self.temperature is not None:
            kept["calibration"] = {VOTE: classifier.info["calibration"][MERGED]}
        if self.merged and self.of_folds and "cross_validation" in (of_mean := of_export(classifier.info, merged=True)):
            kept["cross_validation"] = of_mean["cross_validation"]
        runs, members = (1, 1) if self.merged else (classifier.info["runs"], classifier.info["members"])
        return {
            **kept,
            "format": FORMAT,
            "deni": here.pop("deni"),
            "versions": here,
            "labels": classifier.labels,
            "task": classifier.task,
            "runs": runs,
            "members": members,
        }


@contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for what is made before anything is written."""
    with tempfile.TemporaryDirectory(prefix="deni.") as folder:
        yield Path(folder)


def source_of(classifier: Classifier, mean: Merge | None) -> Source:
    """What becomes a graph: the members, or one model; see `GraphExport`."""
    population = classifier.population
    if population.size == 1 or mean is not None:
        values = (
            population.member(0)
            if population.size == 1
            else population.full((mean or mean_of_members)(population.values))
        )
        model = population.copy_of(values)
        if hasattr(model, "merge_and_unload"):
            model = with_peft(model).merge_and_unload()
        return Source(model.float().eval(), {}, ("one",))
    with population.plain() as plain:
        model = copy.deepcopy(plain).float().eval()
    stacks = {**population.values, **population.module.held_values()}
    values = {name: value.detach().float() for name, value in stacks.items()}
    # The stacked engine would compute the encoder M times where it is the same for all.
    inside = {id(value) for value in encoder_of(model).parameters()}
    outside = not any(id(model.get_parameter(name)) in inside for name in values)
    unstackable = population.engine_name == "loop" and classifier.info["engine"] == "loop"
    return Source(model, values, ("unrolled",) if outside or unstackable else ("stacked", "unrolled"))


def _texts(classifier: Classifier) -> list[list[Any]]:
    """Texts of words that the tokenizer knows, of different lengths: for the trace, then to compare."""
    special = set(classifier.tokenizer.all_special_tokens)
    words = sorted(word for word in classifier.tokenizer.get_vocab() if word not in special)
    words = words[:: max(1, len(words) // 40)][:40] or ["a"]

    def text(at: int, length: int) -> Any:
        chosen = [words[(at + place) % len(words)] for place in range(length)]
        if TASKS[classifier.task].of_words:
            return chosen
        return (" ".join(chosen), " ".join(chosen[::-1])) if classifier.pairs else " ".join(chosen)

    return [[text(0, 6), text(7, 3), text(13, 5)], [text(21, 4)], [text(3, 2), text(5, 12), text(11, 1), text(2, 7)]]


def _write_tokenizer(classifier: Classifier, target: Path) -> None:
    """The tokenizer, whose `tokenizer.json` cuts and pads by itself."""
    tokenizer = copy.deepcopy(classifier.tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        length = classifier.max_length or int(min(tokenizer.model_max_length, 2**31))
        backend.enable_truncation(length)
        backend.enable_padding(
            direction=tokenizer.padding_side,
            pad_id=tokenizer.pad_token_id,
            pad_type_id=tokenizer.pad_token_type_id,
            pad_token=tokenizer.pad_token,
            length=length if classifier.padding == "max_length" else None,
        )
    tokenizer.save_pretrained(target)


def _difference(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> float:
    """The largest; infinite where one is NaN or infinite and the other is not."""
    with np.errstate(invalid="ignore"):
        apart = [np.where(one == other, 0.0, np.abs(one - other)) for one, other in zip(found, expected, strict=True)]
    return max(float(np.nan_to_num(each, nan=np.inf).max()) for each in apart)


def _leave_vmap() -> None:
    """Leave the levels of vmap in which a trace has failed; torch would compute all that follows inside them."""
    from torch._C._functorch import peek_interpreter_stack, pop_dynamic_layer_stack

    while peek_interpreter_stack() is not None:
        pop_dynamic_layer_stack()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch tells of its own export."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
