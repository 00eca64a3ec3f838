"""A small language model of bytes, pre-trained on the documentation in Python's standard library.

The text is what the interpreter at hand brings: the topics of `pydoc` (the language reference) and the docstrings and
comments of the standard library's modules without its tests, (c) Python Software Foundation, PSF License Version 2. It
is read where it is installed; neither it nor the weights are kept here.

    python benchmarks/studies/generation/pretrain.py /tmp/bytes --minutes 20
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import json
import math
import platform
import sysconfig
import time
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HELD_OUT = 100_000  # bytes at the end, whose likelihood is measured
WITHOUT = {"test", "tests", "idle_test", "site-packages", "lib2to3", "pydoc_data", "__pycache__"}
END, PAD = "<end>", "<pad>"


def documents() -> Iterator[str]:
    """The documentation, a module or topic at a time, in an order that depends on the names alone."""
    from pydoc_data.topics import topics

    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py"), key=lambda path: hashlib.sha256(path.name.encode()).digest()):
        if not WITHOUT.intersection(path.relative_to(library).parts):
            yield from _documented(path)
    for name in sorted(topics):
        yield topics[name]


def _documented(path: Path) -> Iterator[str]:
    try:
        source = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(source)
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        yield "\n\n".join(
            text for node in ast.walk(tree) if isinstance(node, kinds) and (text := ast.get_docstring(node))
        )
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        yield "\n".join(each.string.lstrip("#! ") for each in tokens if each.type == tokenize.COMMENT)
    except (SyntaxError, UnicodeDecodeError):
        return


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, one that ends a text and one that pads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={each: at for at, each in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def make_model(tokenizer: PreTrainedTokenizerFast, length: int, width: int, layers: int) -> LlamaForCausalLM:
    """A random model of Llama's shape."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, ids: torch.Tensor, minutes: float, batch: int, length: int, rate: float) -> int:
    """Train on random windows until the processor time is used up; the rate falls with it to a tenth. Returns steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    began, steps, done = time.process_time(), 0, 0.0
    with tqdm(total=round(60 * minutes), unit="s", mininterval=5) as bar:
        while done < 1:
            starts = torch.randint(len(ids) - length, [batch])
            rows = ids[starts.unsqueeze(1) + torch.arange(length)]
            warm = min(1.0, (steps + 1) / 100)
            optimizer.param_groups[0]["lr"] = rate * warm * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(rows, labels=rows).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            steps, spent = steps + 1, time.process_time() - began
            done = spent / (60 * minutes)
            bar.update(round(spent) - bar.n)
            bar.set_postfix(bits=f"{loss.item() / math.log(2):.2f}", refresh=False)
    return steps


@torch.no_grad()
def bits(model: LlamaForCausalLM, ids: torch.Tensor, length: int) -> float:
    """Bits for a byte of text that was not trained on."""
    rows = ids[: len(ids) // length * length].view(-1, length)
    losses = [model(part, labels=part).loss.item() for part in rows.split(64)]
    return float(np.mean(losses)) / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the model goes")
    parser.add_argument("--minutes", type=float, default=20, help="processor time")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--length", type=int, default=128, help="bytes of a window")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    text = "\n\n".join(each for each in documents() if each.strip())
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    model = make_model(tokenizer, args.length, args.width, args.layers)
    steps = train(model, ids[:-HELD_OUT], args.minutes, args.batch, args.length, args.rate)
    model.eval()
    model.save_pretrained(args.folder)
    tokenizer.save_pretrained(args.folder)
    facts = {
        "text": "docstrings, comments and pydoc topics of Python's standard library (PSF License Version 2)",
        "python": platform.python_version(),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "bytes": len(ids),
        "parameters": model.num_parameters(),
        "steps": steps,
        "bytes_seen": steps * args.batch * args.length,
        "minutes": args.minutes,
        "bits_per_byte": round(bits(model, ids[-HELD_OUT:], args.length), 3),
    }
    (args.folder / "pretraining.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
