"""Back-translation: into another language and back, with two translation models."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from deni.augmentation.base import Augmenter
from deni.errors import InputError, InputWarning, SettingError, short
from deni.models.reading import read_model, read_tokenizer
from deni.randomness import global_generators

ROUNDS = 4  # of sampling, where translations come out equal


@dataclass(frozen=True)
class BackTranslation(Augmenter):
    """Translate into another language and back (Sennrich et al. 2016), with sampling (Edunov et al. 2018).

    Args:
        forward_model: folder or hub id of the model that translates the texts, such as Helsinki-NLP/opus-mt-en-de.
        backward_model: folder or hub id of the model that translates back, such as Helsinki-NLP/opus-mt-de-en; may be
            the same.
        language: code of the texts' language, for a model of many languages (eng_Latn in NLLB, en in M2M100).
        pivot: code of the other language, for a model of many languages.
        forward_prefix: what is put in front of a text for the model, such as ">>deu<< ".
        backward_prefix: what is put in front of a translation for the model.
        sample: whether translations are sampled; if not, they are the best of a beam search.
        temperature: temperature of sampling; higher for more variety, lower for fewer mistakes.
        top_p: sample from the most probable tokens that have this probability together.
        beams: how many beams beam search has.
        max_length: tokens of a text or translation; what is longer is cut.
        batch_size: labeled examples that are translated at the same time; each has n translations.
        device: device such as cuda or cpu; by default a GPU, if there is one.
    """

    name: ClassVar[str] = "back_translation"
    incidental: ClassVar[frozenset[str]] = frozenset({"device"})

    forward_model: str = ""
    backward_model: str = ""
    language: str | None = None
    pivot: str | None = None
    forward_prefix: str = ""
    backward_prefix: str = ""
    sample: bool = True
    temperature: float = 0.9
    top_p: float = 0.95
    beams: int = 5
    max_length: int = 128
    batch_size: int = 16
    device: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("forward_model", "backward_model"):
            if not getattr(self, name):
                flag = "--" + name.replace("_", "-")
                raise SettingError(f"back_translation needs {flag}: a folder or a hub id of a translation model")
        if (self.language is None) != (self.pivot is None):
            raise SettingError("language and pivot are given together, or neither")
        for name in ("beams", "max_length", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.temperature <= 0:
            raise SettingError(f"temperature must be above 0, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise SettingError(f"top_p must be above 0 and at most 1, not {self.top_p}")

    @property
    def batch(self) -> int:  # type: ignore[override]
        """As many texts as fit the device."""
        return self.batch_size

    def start(self, texts: Sequence[str], labels: Sequence[str], n: int, seed: int) -> None:
        for each in (self._forward, self._backward):
            limit = getattr(each.model.config, "max_position_embeddings", None)  # T5 has none
            if limit is not None and self.max_length > limit:
                raise InputError(f"max_length {self.max_length} is over the {limit} tokens that {each.name} takes")
        ids = self._forward.tokenizer([self.forward_prefix + text for text in texts], verbose=False)["input_ids"]
        long = [text for text, own in zip(texts, ids, strict=True) if len(own) > self.max_length]
        if long:
            warnings.warn(
                f"{len(long)} of {len(texts)} texts are longer than {self.max_length} tokens, such as "
                f"{short(long[0])}; they are cut before they are translated: raise --max-length",
                InputWarning,
                stacklevel=4,
            )

    def make(
        self, texts: Sequence[str], labels: Sequence[str], n: int, generators: Sequence[np.random.Generator]
    ) -> list[list[str]]:
        made: list[dict[str, None]] = [{text: None} for text in texts]
        left = list(range(len(texts)))
        for _ in range(ROUNDS if self.sample else 1):
            # `generate` draws from the global generator, for the whole batch.
            with global_generators(int(generators[0].integers(2**62))):
                for row, new in zip(left, self._round([texts[row] for row in left], n), strict=True):
                    made[row].update(dict.fromkeys(new))
            left = [row for row in left if len(made[row]) <= n]
            if not left:
                break
        return [list(own)[1:] for own in made]

    def _round(self, texts: list[str], n: int) -> list[list[str]]:
        """Translate each text n times and back; the best ones first."""
        there = self._forward.translate([self.forward_prefix + text for text in texts], n, self._how(n))
        rows = [row for row, own in enumerate(there) for _ in own]
        pivots = [self.backward_prefix + pivot for own in there for pivot in own]
        each = 1 if self.sample else self.beams
        back = self._backward.translate(pivots, each, self._how(each))
        found: list[list[str]] = [[] for _ in texts]
        for rank in range(each):
            for row, own in zip(rows, back, strict=True):
                found[row] += own[rank : rank + 1]
        return found

    def _how(self, sequences: int) -> Mapping[str, Any]:
        """Arguments of `generate`."""
        sampling = {"num_beams": 1, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        searching = {"num_beams": max(self.beams, sequences)}
        rest = {"max_length": self.max_length, "max_new_tokens": None}
        return {"do_sample": self.sample, **(sampling if self.sample else searching), **rest}

    @cached_property
    def _forward(self) -> _Translator:
        return _Translator(self.forward_model, self.device, self.language, self.pivot)

    @cached_property
    def _backward(self) -> _Translator:
        shared = self._forward if self.backward_model == self.forward_model else None
        return _Translator(self.backward_model, self.device, self.pivot, self.language, shared)


class _Translator:
    """A translation model with its tokenizer, for one direction; shares its weights with `shared`, if given."""

    def __init__(
        self, name: str, device: str | None, source: str | None, target: str | None, shared: _Translator | None = None
    ) -> None:
        self.name, self.source = name, source
        loaded = (shared.tokenizer, shared.model) if shared is not None else _load(name, device)
        self.tokenizer: Any = loaded[0]
        self.model: Any = loaded[1]
        self.first = None if target is None else self._language_token(target)
        if source is not None:
            self._language_token(source)

    def translate(self, texts: Sequence[str], each: int, how: Mapping[str, Any]) -> list[list[str]]:
        """Translations of each text, at most `each`, the best ones first; none is blank."""
        if not texts:
            return []
        if self.source is not None:
            self.tokenizer.src_lang = self.source
        tokens = self.tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=how["max_length"]
        ).to(self.model.device)
        languages = {} if self.first is None else {"forced_bos_token_id": self.first}
        from deni.models.products import fast_products

        with fast_products():
            ids = self.model.generate(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                num_return_sequences=each,
                **how,
                **languages,
            )
        lines = [line.strip() for line in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        return [[line for line in lines[at : at + each] if line] for at in range(0, len(lines), each)]

    def _language_token(self, code: str) -> int:
        # M2M100 writes __de__; its vocabulary has a subword "de", too.
        for token in (f"__{code}__", code):
            found = self.tokenizer.convert_tokens_to_ids(token)
            if found is not None and found != self.tokenizer.unk_token_id:
                return found
        raise InputError(f"model {self.name!r} has no language {code!r}: its model card lists the codes")


def _load(name: str, device: str | None) -> tuple[Any, Any]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSeq2SeqLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = read_tokenizer(name)
            model = read_model(AutoModelForSeq2SeqLM, name, dtype=torch.float32)
        return tokenizer, model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (OSError, ValueError, KeyError, ImportError, SafetensorError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "give a folder or a hub id of a translation model"
        if "SentencePiece" in str(error) or "sentencepiece" in str(error):
            hint = 'pip install "deni[translation]"'
        raise InputError(f"translation model {name!r} cannot be loaded: {first} ({hint})") from error
    finally:
        logging.enable_progress_bar()
