"""The vote under transformers' `generate` equals hand-written loops over plain models, one after another."""

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, MaxTimeCriteria, StoppingCriteriaList
from transformers.generation import BaseStreamer, StoppingCriteria

from deni.errors import SettingError
from deni.generation.voting import SeparateGenerator, VotingGenerator
from deni.population import Population
from deni.randomness import Sources
from tests.helpers.generating import (
    PROMPTS,
    answers_of,
    batch,
    beams_by_hand,
    by_hand,
    copies,
    language_model,
    members_of,
    next_log_probabilities,
)

TOKENS = 5
# T5 and BART look positions up once for all rows, which members with their own tables cannot: the loop computes them.
CASES = [
    ("llama", "full", "stacked"),
    ("llama", "lora", "stacked"),
    ("llama", "lora", "loop"),
    ("qwen2", "full", "stacked"),
    ("mistral", "lora", "stacked"),
    ("gpt2", "full", "stacked"),
    ("gpt2", "lora", "loop"),
    ("t5", "lora", "stacked"),
    ("t5", "full", "loop"),
    ("bart", "lora", "stacked"),
]


def apart(models, prompt):
    """The largest difference between what the models predict first."""
    with torch.no_grad():
        first, *others = (next_log_probabilities([model], prompt, []) for model in models)
    return max(float((each - first).abs().max()) for each in others)


@pytest.mark.parametrize(("name", "tuning", "engine"), CASES)
def test_greedy_search_equals_a_loop_without_a_cache(name, tuning, engine):
    population = members_of(language_model(name, tuning), engine=engine)
    models = copies(population)
    assert apart(models, PROMPTS[0]) > 0.1
    end = by_hand(models, PROMPTS[0], TOKENS)[1]  # the answer to the first prompt ends early
    generated = VotingGenerator(population).generate(**batch(name), max_new_tokens=TOKENS, eos_token_id=end)
    expected = [by_hand(models, prompt, TOKENS, end=end) for prompt in PROMPTS]
    assert answers_of(name, generated, end) == expected
    assert len(expected[0]) <= 2


@pytest.mark.parametrize(("name", "tuning", "engine"), [CASES[2], CASES[5], CASES[9]])
def test_beam_search_equals_a_loop_without_a_cache(name, tuning, engine):
    population = members_of(language_model(name, tuning), engine=engine)
    models = copies(population)
    end = beams_by_hand(models, PROMPTS[0], 2, beams=3)[1][1][-1]  # so that a beam ends early
    options = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.0, "max_new_tokens": 4}
    generated = VotingGenerator(population).generate(
        **batch(name), **options, eos_token_id=end, return_dict_in_generate=True, output_scores=True
    )
    expected = [beam for prompt in PROMPTS for beam in beams_by_hand(models, prompt, 4, beams=3, end=end)[:2]]
    assert answers_of(name, generated.sequences, end) == [answer for _, answer in expected]
    assert torch.allclose(generated.sequences_scores, torch.tensor([score for score, _ in expected]), atol=1e-5)
    assert any(end in answer for _, answer in expected)


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_temperature_and_top_k_are_of_the_vote(name):
    population = members_of(language_model(name, "lora"))
    options = {"do_sample": True, "temperature": 1.7, "top_k": 4, "num_return_sequences": 3}
    row = {key: value[:1] for key, value in batch(name).items()}
    torch.manual_seed(3)
    generated = VotingGenerator(population).generate(**row, max_new_tokens=TOKENS, eos_token_id=-1, **options)
    torch.manual_seed(3)
    models, answers = copies(population), [[], [], []]
    with torch.no_grad():
        for _ in range(TOKENS):
            scores = torch.stack([next_log_probabilities(models, PROMPTS[0], each) for each in answers]).float() / 1.7
            scores[scores < scores.topk(4).values[:, -1:]] = -torch.inf
            for answer, token in zip(answers, scores.softmax(-1).multinomial(1).flatten().tolist(), strict=True):
                answer.append(token)
    assert [row[-TOKENS:].tolist() for row in generated] == answers


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "top_p": 0.8}], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_one_member_and_equal_members_generate_what_the_model_does(name, options):
    model = language_model(name, dtype=torch.float32)
    torch.manual_seed(1)
    expected = model.generate(**batch(name), max_new_tokens=TOKENS, **options)
    engine = "loop" if name == "bart" else "stacked"
    for members in (1, 3):
        population = members_of(language_model(name, dtype=torch.float32), members, engine, variance=0.0)
        torch.manual_seed(1)
        assert torch.equal(
            VotingGenerator(population).generate(**batch(name), max_new_tokens=TOKENS, **options), expected
        )


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"do_sample": True}, {"use_cache": False}], ids=str)
def test_engines_agree(options):
    options = {**options, "return_dict_in_generate": True, "output_logits": True, "max_new_tokens": TOKENS}
    found = []
    for engine, at_a_time in (("loop", None), ("stacked", None), ("stacked", 2)):
        population = members_of(language_model("llama"), engine=engine)
        population.module.choose(engine, at_a_time)
        torch.manual_seed(2)
        found.append(VotingGenerator(population).generate(**batch("llama"), **options))
    for other in found[1:]:
        assert torch.equal(other.sequences, found[0].sequences)
        assert torch.allclose(torch.stack(other.logits), torch.stack(found[0].logits), atol=1e-6)


@pytest.mark.parametrize(("name", "tuning", "engine"), [CASES[1], CASES[5], CASES[8], CASES[9]])
@pytest.mark.parametrize("options", [{}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_separate_answers_are_those_of_each_member(name, tuning, engine, options):
    population = members_of(language_model(name, tuning), engine=engine)
    folded = {key: value.repeat(3, 1) for key, value in batch(name).items()}
    rows = answers_of(name, SeparateGenerator(population).generate(**folded, max_new_tokens=TOKENS, **options))
    own = [
        answers_of(name, each.generate(**batch(name), max_new_tokens=TOKENS, **options)) for each in copies(population)
    ]
    assert rows == [answer for answers in own for answer in answers]


class Collected(BaseStreamer):
    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ended = True


class Forbidden(LogitsProcessor):
    """No token twice."""

    def __call__(self, input_ids, scores):
        return scores.scatter(1, input_ids, -torch.inf)


class After(StoppingCriteria):
    """Stops after a token."""

    def __init__(self, token):
        self.token = token

    def __call__(self, input_ids, scores, **_):
        return input_ids[:, -1] == self.token


def test_processors_criteria_and_streamers_work_on_the_vote():
    population = members_of(language_model("llama", "lora"))
    prompt = PROMPTS[0]
    answer = []

    def unused(scores):
        token = next(each for each in scores.argsort(descending=True).tolist() if each not in prompt + answer)
        answer.append(token)
        return token

    by_hand(copies(population), prompt, TOKENS, unused)
    streamer = Collected()
    generated = VotingGenerator(population).generate(
        torch.tensor([prompt]),
        max_new_tokens=TOKENS,
        logits_processor=LogitsProcessorList([Forbidden()]),
        stopping_criteria=StoppingCriteriaList([After(answer[2]), MaxTimeCriteria(60)]),
        streamer=streamer,
    )
    assert generated.tolist() == [prompt + answer[:3]]
    assert streamer.tokens == prompt + answer[:3]
    assert streamer.ended


def test_a_conversation_goes_on_from_the_caches_of_the_members():
    population = members_of(language_model("llama", "lora"))
    voting = VotingGenerator(population)
    prompt = torch.tensor([PROMPTS[0]])
    first = voting.generate(prompt, max_new_tokens=3, eos_token_id=-1, return_dict_in_generate=True)
    longer = torch.cat([first.sequences, torch.tensor([[4, 11]])], 1)
    again = voting.generate(longer, max_new_tokens=3, eos_token_id=-1, past_key_values=first.past_key_values)
    assert torch.equal(again, voting.generate(longer, max_new_tokens=3, eos_token_id=-1))


def test_candidates_of_prompt_lookup_are_checked_by_the_vote():
    population = members_of(language_model("gpt2", "lora"))
    options = {"max_new_tokens": 8, "eos_token_id": -1}
    prompt, voting = torch.tensor([PROMPTS[0] * 2]), VotingGenerator(population)
    assert torch.equal(
        voting.generate(prompt, prompt_lookup_num_tokens=2, **options), voting.generate(prompt, **options)
    )


def test_training_goes_on_where_it_was():
    population = members_of(language_model("gpt2"))
    module = population.module.train()
    module.focus(module.chunks[0])
    before = {name: value.clone() for name, value in population.values.items()}
    VotingGenerator(population).generate(**batch("gpt2"), max_new_tokens=2)
    assert module.training
    assert all(each.training for each in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in population.values.items())


def test_the_loop_leaves_the_first_member_in_the_model():
    population = members_of(language_model("gpt2"), engine="loop")
    VotingGenerator(population).generate(**batch("gpt2"), max_new_tokens=2)
    parameters = dict(population.model.named_parameters())
    assert all(torch.equal(parameters[name], value[0]) for name, value in population.values.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_implementation": "static"}, "cache_implementation='static'"),
        ({"output_attentions": True, "return_dict_in_generate": True}, "omit output_attentions"),
        ({"past_key_values": ((1,),)}, "not those that these members returned"),
    ],
)
def test_what_has_no_meaning_for_several_members_is_refused(options, message):
    voting = VotingGenerator(members_of(language_model("llama", "lora")))
    with pytest.raises(SettingError, match=message):
        voting.generate(**batch("llama"), max_new_tokens=2, **options)


def test_a_typo_in_an_option_is_refused_as_by_transformers():
    voting = VotingGenerator(members_of(language_model("llama", "lora")))
    with pytest.raises(ValueError, match="max_new_token"):
        voting.generate(**batch("llama"), max_new_token=2)


def test_models_that_do_not_generate_are_refused():
    from peft import PromptTuningConfig, get_peft_model

    from tests.helpers.tiny import make_tiny

    with pytest.raises(SettingError, match="BertForSequenceClassification does not generate"):
        VotingGenerator(Population(make_tiny("bert"), [Sources(0)]))
    prompts = get_peft_model(language_model("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(SettingError, match="prompt tuning"):
        VotingGenerator(Population(prompts, [Sources(0)]))
