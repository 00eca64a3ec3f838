"""Tiny random language models, prompts with answers as tokens, and their training by plain PyTorch."""

import copy
import random
import warnings

import torch
import torch.nn.functional as F
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from deni.randomness import global_generators
from tests.helpers.tiny import SMALL

ENCODER_DECODER = {
    "vocab_size": 60,
    "d_model": 32,
    "pad_token_id": 1,
    "eos_token_id": 3,
    "decoder_start_token_id": 2,
}
OF_ONE_SIDE = {"layers": 1, "attention_heads": 4, "ffn_dim": 48}
BART = {f"{side}_{what}": size for side in ("encoder", "decoder") for what, size in OF_ONE_SIDE.items()}
MODELS = {
    "llama": ("Llama", "ForCausalLM", SMALL["llama"][1]),
    "gpt2": ("GPT2", "LMHeadModel", SMALL["gpt2"][1]),
    "qwen2": ("Qwen2", "ForCausalLM", {**SMALL["qwen2"][1], "tie_word_embeddings": True}),
    "opt": ("OPT", "ForCausalLM", SMALL["opt"][1]),
    "gemma2": (
        "Gemma2",
        "ForCausalLM",
        {**SMALL["gemma"][1], "final_logit_softcapping": 0.5, "query_pre_attn_scalar": 8, "sliding_window": 16},
    ),
    "cohere": ("Cohere", "ForCausalLM", {**SMALL["llama"][1], "logit_scale": 3.0}),
    "granite": ("Granite", "ForCausalLM", {**SMALL["llama"][1], "logits_scaling": 0.25}),
    "t5": (
        "T5",
        "ForConditionalGeneration",
        {**ENCODER_DECODER, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4},
    ),
    "bart": (
        "Bart",
        "ForConditionalGeneration",
        {**ENCODER_DECODER, **BART, "max_position_embeddings": 40},
    ),
}
TARGETS = {"gpt2": ["c_attn"], "t5": ["q", "v"], "granite": ["q_proj", "v_proj"]}


def make_generator(name, seed=0, dtype=torch.float64, dropout=False, vocabulary=60):
    """A tiny random model; its weights are far enough from 0 that soft-capping and scaling matter."""
    family, head, sizes = MODELS[name]
    config = getattr(transformers, f"{family}Config")(**{**sizes, "vocab_size": vocabulary})
    if not dropout:
        for key in ("dropout", "dropout_rate", "attention_dropout", "activation_dropout", "resid_pdrop", "embd_pdrop"):
            if getattr(config, key, None):
                setattr(config, key, 0.0)
        if hasattr(config, "attn_pdrop"):
            config.attn_pdrop = 0.0
    with global_generators(seed):
        return getattr(transformers, f"{family}{head}")(config).to(dtype).train()


def with_lora(model, name, seed=5, dropout=0.0):
    """The same with LoRA, whose second factor is not 0."""
    from peft import LoraConfig, get_peft_model

    targets = TARGETS.get(name, ["q_proj", "v_proj"])
    config = LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False, lora_dropout=dropout)
    config.fan_in_fan_out = name == "gpt2"
    with global_generators(seed), warnings.catch_warnings():
        # PEFT asks transformers under a name that transformers will drop.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config).to(next(model.parameters()).dtype)


def answered_rows(count=12, seed=1, causal=True):
    """Prompts and answers of many lengths; the labels of the prompt's tokens, in a causal model, are -100."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        prompt = [draw.randrange(5, 60) for _ in range(draw.randrange(2, 8))]
        answer = [draw.randrange(5, 60) for _ in range(draw.randrange(1, 6))] + [3]
        if causal:
            rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
        else:
            rows.append({"input_ids": prompt, "labels": answer})
    return rows


def collate_answers(features):
    """Padded on the right."""

    def padded(values, fill):
        longest = max(map(len, values))
        return torch.tensor([list(each) + [fill] * (longest - len(each)) for each in values])

    return {
        "input_ids": padded([each["input_ids"] for each in features], 1),
        "attention_mask": padded([[1] * len(each["input_ids"]) for each in features], 0),
        "labels": padded([each["labels"] for each in features], -100),
    }


def plain_loss(model, batch):
    """The mean cross-entropy of a batch's answers, from all logits."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    labels = batch["labels"]
    more = {}
    if inner.config.is_encoder_decoder:
        start = torch.full((len(labels), 1), inner.config.decoder_start_token_id)
        before = torch.cat([start, labels[:, :-1]], 1)
        more["decoder_input_ids"] = before.masked_fill(before == -100, inner.config.pad_token_id)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], **more).logits
    if not more:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def plainly_trained(model, batches, rate):
    """A copy after a step of plain gradient descent on each batch; in evaluation mode."""
    model = copy.deepcopy(model).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    for batch in batches:
        gradients = torch.autograd.grad(plain_loss(model, batch), trained)
        with torch.no_grad():
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter -= rate * gradient
    return model.eval()


def batches_of(ours, run, rows):
    """The batches of a run, in its own order."""
    order = torch.randperm(len(rows), generator=ours.population.sources[run].derived("sample_order", 0)).tolist()
    return [collate_answers([rows[at] for at in order[first : first + 4]]) for first in range(0, len(rows), 4)]


def check_against_plain_pytorch(ours, rows, rate, within=1e-5):
    """Members are as plain PyTorch trains them, to rounding; root mean square norms compute in float32."""
    for run in range(ours.runs):
        start = ours.fresh.of(run)
        expected, values = plainly_trained(start, batches_of(ours, run, rows), rate), ours.population.member(run)
        trained = {key: each.detach() for key, each in expected.named_parameters() if each.requires_grad}
        way = max((value - start.get_parameter(key)).abs().max().item() for key, value in trained.items())
        assert way > 1e-3
        assert trained.keys() <= values.keys()
        for key, value in trained.items():
            assert (values[key] - value).abs().max().item() < within * way, key


CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_tokenizer(template=CHAT):
    """A token for each byte, and three special ones in front."""
    special = ["<pad>", "<s>", "</s>"]
    names = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=special[0], bos_token=special[1], eos_token=special[2]
    )
    made.chat_template = template
    return made


def save_generator(folder, name="llama", seed=0, template=CHAT):
    """A folder with a tiny random model of bytes, and its tokenizer."""
    family, head, sizes = MODELS[name]
    tokenizer = byte_tokenizer(template)
    sizes = {**sizes, "vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if name in ("t5", "bart"):
        sizes["decoder_start_token_id"] = 0
    config = getattr(transformers, f"{family}Config")(**{**sizes, "max_position_embeddings": 256, "n_positions": 256})
    with global_generators(seed):
        getattr(transformers, f"{family}{head}")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
