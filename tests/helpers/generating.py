"""Tiny random language models that generate, members of them that differ, and plain copies of these members."""

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.schedule import Fork

VOCABULARY, END = 40, 2
IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}
DECODER = {
    **IDS,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
MODELS = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", DECODER),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**DECODER, "tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**DECODER, "sliding_window": 4}),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**IDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {**IDS, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4, "decoder_start_token_id": 0},
    ),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {
            **IDS,
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 24,
            "max_position_embeddings": 64,
            "decoder_start_token_id": END,
            "forced_eos_token_id": None,
        },
    ),
}
ENCODER_DECODERS = ("t5", "bart")
PROMPTS = [[5, 9, 31, 17, 6], [8, 20, 7]]


def language_model(name: str, tuning: str = "full", seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A random model with sharp predictions, so that no two tokens are equally likely but for rounding."""
    model_class, config_class, sizes = MODELS[name]
    with global_generators(seed):
        model = getattr(transformers, model_class)(getattr(transformers, config_class)(**sizes))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.normal_(std=0.4)
        if tuning == "lora":
            task = "SEQ_2_SEQ_LM" if name in ENCODER_DECODERS else "CAUSAL_LM"
            model = get_peft_model(model, LoraConfig(task_type=task, r=4, fan_in_fan_out=name == "gpt2"))
    return model.to(dtype).eval()


def members_of(model: nn.Module, members: int = 3, engine: str = "stacked", variance: float = 0.5) -> Population:
    """A population of members that differ by noise; with variance 0 they are equal."""
    population = Population(model, [Sources(7)], engine)
    population.fork(members, Fork(noise=Noise(variance=variance, scope="trainable", floor=0.2)))
    return population


def copies(population: Population) -> list[nn.Module]:
    """Each member as an ordinary model of transformers."""
    models = [population.copy_of(population.member(member)).eval() for member in range(population.size)]
    return [model.merge_and_unload() if hasattr(model, "merge_and_unload") else model for model in models]


def batch(name: str) -> dict[str, Tensor]:
    """The prompts, padded on the side where the model wants it."""
    longest = max(map(len, PROMPTS))
    rows, mask = [], []
    for prompt in PROMPTS:
        pad = [0] * (longest - len(prompt))
        rows.append(prompt + pad if name in ENCODER_DECODERS else pad + prompt)
        mask.append([int(each != 0) for each in rows[-1]])
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}


def next_log_probabilities(models: list[nn.Module], prompt: list[int], answer: list[int]) -> Tensor:
    """The log of the mean of the models' next-token probabilities `(V,)`, one model after another, without a cache."""
    mean = 0
    for model in models:
        if model.config.is_encoder_decoder:
            start = model.generation_config.decoder_start_token_id
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *answer]])).logits
        else:
            logits = model(input_ids=torch.tensor([prompt + answer])).logits
        mean = mean + logits[0, -1].softmax(-1) / len(models)
    return mean.log()


@torch.no_grad()
def by_hand(models, prompt, tokens, choose=lambda scores: int(scores.argmax()), end=END):
    """An answer of so many tokens or up to the end token, each chosen from the mean of the models' probabilities."""
    answer: list[int] = []
    while len(answer) < tokens and end not in answer:
        answer.append(choose(next_log_probabilities(models, prompt, answer)))
    return answer


@torch.no_grad()
def beams_by_hand(models, prompt, tokens, beams, end=END):
    """The answers of beam search over sums of log-probabilities, best first, each with its sum."""
    running, finished = [(0.0, [])], []
    for step in range(1, tokens + 1):
        candidates = []
        for score, answer in running:
            scores = next_log_probabilities(models, prompt, answer)
            candidates += [(score + float(each), [*answer, token]) for token, each in enumerate(scores)]
        candidates.sort(key=lambda each: -each[0])
        finished += [each for each in candidates[:beams] if each[1][-1] == end or step == tokens]
        running = [each for each in candidates[: 2 * beams] if each[1][-1] != end][:beams]
    return sorted(finished, key=lambda each: -each[0])[:beams]


def answers_of(name: str, generated: Tensor, end: int = END) -> list[list[int]]:
    """What is generated in each row, up to the end token."""
    prompt = 1 if name in ENCODER_DECODERS else max(map(len, PROMPTS))
    rows = [row[prompt:].tolist() for row in generated]
    return [row[: row.index(end) + 1] if end in row else row for row in rows]
