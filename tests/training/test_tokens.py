"""Token classification: votes of each token, padding, packs, comparisons, as transformers.Trainer and NumPy have it."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

import deni
from deni.data import Texts
from deni.models.loading import load_model, load_tokenizer
from deni.models.tokenizing import tokenize
from deni.randomness import generator, global_generators
from deni.strategies import DENI, Default, Ensemble
from deni.tasks import TASKS
from deni.tuning import make_tuning
from tests.helpers.tiny import toy_rows
from tests.helpers.trainers import CONFIG, make

NONE = -100


def fresh():
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForTokenClassification(BertConfig(**{**CONFIG, **still})).double()


def seeded():
    with global_generators(0):
        return fresh()


def sentences(count=20, seed=1, longest=9):
    """The label of a token is its id modulo 3; the first, the last and some in between have none."""
    draw = generator(seed)
    lengths = torch.randint(3, longest + 1, (count,), generator=draw).tolist()
    ids = [torch.randint(1, 60, (length,), generator=draw).tolist() for length in lengths]
    labels = [[NONE, *[NONE if token % 7 == 0 else token % 3 for token in row[1:-1]], NONE] for row in ids]
    mask = [[1] * length for length in lengths]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": mask, "labels": labels})


def collate(features):
    longest = max(len(each["input_ids"]) for each in features)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": NONE}
    return {
        key: torch.tensor([each[key] + [value] * (longest - len(each[key])) for each in features])
        for key, value in fill.items()
        if key in features[0]
    }


def trained(folder, strategy, evaluates=8, **options):
    settings = {"per_device_eval_batch_size": evaluates, "num_train_epochs": 3}
    chosen = {"train": sentences(), "data_collator": collate, "args": settings, **options}
    if "model_init" not in chosen:
        chosen["model"] = seeded()
    trainer = make(folder, strategy, **chosen)
    trainer.train()
    return trainer


def by_hand(trainer, rows):
    """The logits of every member, sentence by sentence: `(M, T, C)` each."""
    population, model = trainer.population, seeded().eval()
    result = []
    for row in rows:
        each = []
        for member in range(population.size):
            model.load_state_dict(population.member(member), strict=False)
            each.append(model(torch.tensor([row["input_ids"]])).logits[0])
        result.append(torch.stack(each).detach().numpy())
    return result


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_one_member_is_evaluated_as_transformers_does(tmp_path):
    ours = trained(tmp_path, Default(), evaluates=3)
    seen = {}
    model = ours.population.model
    arguments = TrainingArguments(
        str(tmp_path), per_device_eval_batch_size=3, use_cpu=True, report_to=[], disable_tqdm=True
    )
    theirs = Trainer(model, arguments, data_collator=collate)
    held_out = sentences(10, seed=7)
    expected = theirs.predict(held_out)
    ours.compute_metrics = lambda said: seen.update(said=said.predictions, gold=said.label_ids) or {}
    said = ours.predict(held_out)
    there = expected.predictions != -100
    assert (~there).any()
    np.testing.assert_array_equal(said.label_ids, expected.label_ids)
    np.testing.assert_array_equal(seen["gold"], expected.label_ids)
    np.testing.assert_array_equal(said.predictions == -100, ~there)
    np.testing.assert_allclose(said.predictions[there], log_softmax(expected.predictions)[there], atol=1e-9)
    np.testing.assert_array_equal(seen["said"], said.predictions)
    assert said.metrics["test_loss"] == pytest.approx(expected.metrics["test_loss"], abs=1e-9)


@pytest.mark.parametrize("engine", ["stacked", "loop"])
@pytest.mark.parametrize("combine", ["soft", "hard", "parent"])
def test_members_vote_on_each_token(tmp_path, combine, engine):
    trainer = trained(tmp_path, DENI(members=3, combine=combine), evaluates=4, engine=engine)
    assert trainer.population.engine_name == engine
    held_out = sentences(10, seed=7)
    members, votes = trainer.predict_members(held_out), trainer.predict(held_out).predictions
    longest = max(map(len, held_out["input_ids"]))
    assert members.shape == (10, 3, longest, 3)
    assert votes.shape == (10, longest, 3)
    differ = 0
    for row, logits in enumerate(by_hand(trainer, held_out)):
        tokens = logits.shape[1]
        np.testing.assert_allclose(members[row, :, :tokens], log_softmax(logits), atol=1e-9)
        assert (members[row, :, longest:] == NONE).all()
        own, said = np.exp(members[row, :, :tokens]), np.exp(votes[row, :tokens])
        chosen = np.eye(3)[own.argmax(-1)]
        expected = {"soft": own.mean(0), "hard": chosen.mean(0), "parent": own[0]}[combine]
        np.testing.assert_allclose(said, expected, atol=1e-9)
        differ += (own.argmax(-1) != own.argmax(-1)[:1]).sum()
    assert differ  # members that are alike would vote in any way


def test_a_pack_of_seeds_equals_the_seeds_alone(tmp_path):
    data = [sentences(16, seed=1, longest=6), sentences(16, seed=2, longest=9)]
    tests = [sentences(10, seed=7, longest=9), sentences(10, seed=8, longest=5)]
    strategy = DENI(members=2)
    metrics = []

    def share(said):
        right = said.predictions.argmax(-1) == said.label_ids
        metrics.append(float(right[said.label_ids != NONE].mean()))
        return {"share": metrics[-1]}

    options = {"model_init": fresh, "evaluates": 4}
    pack = trained(tmp_path, strategy, seeds=[5, 6], train=data, eval_dataset=tests, compute_metrics=share, **options)
    measured = pack.evaluate()
    assert measured["eval_share"] == pytest.approx(np.mean(metrics), abs=1e-12)
    alone = [
        trained(tmp_path, strategy, seeds=[seed], train=own, eval_dataset=test, compute_metrics=share, **options)
        for seed, own, test in zip((5, 6), data, tests, strict=True)
    ]
    assert metrics[:2] == [one.evaluate()["eval_share"] for one in alone]
    held_out = sentences(10, seed=9)
    together, members = pack.predict(held_out), pack.predict_members(held_out)
    for seed, one in enumerate(alone):
        expected = one.predict(held_out)
        np.testing.assert_allclose(together.predictions[:, seed], expected.predictions, atol=1e-9)
        np.testing.assert_array_equal(together.label_ids[:, seed], expected.label_ids)
        np.testing.assert_allclose(members[:, 2 * seed : 2 * seed + 2], one.predict_members(held_out), atol=1e-9)


def test_an_ensemble_votes_on_each_token(tmp_path):
    trainer = trained(tmp_path, Ensemble(members=2), model_init=fresh)
    held_out = sentences(6, seed=7)
    real = np.arange(max(map(len, held_out["input_ids"]))) < np.array(list(map(len, held_out["input_ids"])))[:, None]
    members = np.exp(trainer.predict_members(held_out)).mean(1)
    np.testing.assert_allclose(np.exp(trainer.predict(held_out).predictions)[real], members[real], atol=1e-9)


@pytest.mark.parametrize("labelled", [True, False])
def test_members_are_compared_on_real_tokens_only(tmp_path, labelled):
    held_out = sentences(8, seed=7)
    trainer = trained(tmp_path, DENI(members=3, variance=40.0), eval_dataset=held_out)
    if not labelled:
        trainer.eval_dataset = held_out.remove_columns("labels")
        trainer.phases.monitor.compare(trainer.population, trainer.failures.runs, "vote", trainer.state.global_step)
    members, gold = trainer.predict_members(held_out), trainer.predict(held_out).label_ids
    lengths = np.array(list(map(len, held_out["input_ids"])))
    real = gold != NONE if labelled else np.arange(gold.shape[1]) < lengths[:, None]
    chosen = members.argmax(-1).swapaxes(1, 2)[real]  # (tokens, M)
    expected = np.mean([np.mean(chosen[:, a] != chosen[:, b]) for a, b in [(0, 1), (0, 2), (1, 2)]])
    record = trainer.diagnostics.records[-1]
    assert 0 < expected == pytest.approx(record.end.disagreement, abs=1e-12)
    assert "of the labels of 8 evaluation texts" in trainer.diagnostics.story()
    if labelled:
        picked = np.take_along_axis(members, np.maximum(gold, 0)[:, None, :, None], -1)[..., 0]  # (N, M, T)
        losses = -picked.swapaxes(1, 2)[real].mean(0)
        assert record.end.parent_loss == pytest.approx(losses[0], abs=1e-9)
        assert record.end.copies_loss == pytest.approx(losses[1:].mean(), abs=1e-9)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_saved_model_says_what_the_trainer_says(tmp_path, model_folder, tuning):
    tokenizer = load_tokenizer(model_folder, "token")
    names = ["O", "B-A", "I-A"]
    texts = [text.split() for text, _ in toy_rows(6)]
    tags = tuple(tuple(names[len(word) % 3] for word in words) for words in texts)
    data = tokenize(Texts([tuple(words) for words in texts], list(tags), "X", None, "token"), tokenizer, 40, names)

    def model():
        return make_tuning(tuning).apply(load_model(model_folder, names, task="token"))

    collator = DataCollatorForTokenClassification(tokenizer)
    options = {"processing_class": tokenizer, "data_collator": collator, "train": data, "model_init": model}
    trainer = make(tmp_path, DENI(members=3, variance=0.15), **options)
    trainer.train()
    assert trainer.active_ids is not None or tuning == "lora"  # the collator of tokens leaves the ids as they are
    trainer.save_model(str(tmp_path / "model"))
    classifier = deni.load(tmp_path / "model", "cpu")
    output, members = trainer.predict(data), trainer.predict_members(data)
    first = output.label_ids != NONE
    np.testing.assert_allclose(classifier.members(texts), members.swapaxes(1, 2)[first], atol=1e-5)
    np.testing.assert_allclose(classifier.votes(texts), output.predictions[first], atol=1e-5)
    chosen = iter(output.predictions[first].argmax(-1))
    assert classifier.predict(texts) == [[names[next(chosen)] for _ in words] for words in texts]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "pipeline_tag: token-classification" in card
    assert f"Base model: {model_folder}" in card
    assert "`O`, `B-A`, `I-A`" in card


def test_the_loss_of_each_member_is_that_of_transformers():
    batch, model = collate(list(sentences(6))), seeded().eval()
    logits = model(batch["input_ids"], batch["attention_mask"]).logits
    losses = TASKS["token"].member_losses(logits, batch["labels"], 2)
    for member in range(2):
        own = {key: value[3 * member : 3 * member + 3] for key, value in batch.items()}
        torch.testing.assert_close(losses[member], model(**own).loss, rtol=1e-12, atol=1e-14)
    nothing = torch.full_like(batch["labels"], NONE)
    assert TASKS["token"].member_losses(logits, nothing, 2).tolist() == [0.0, 0.0]


def test_outputs_of_virtual_tokens_are_refused():
    with pytest.raises(ValueError, match="choose another tuning"):
        make_tuning("prompt").apply(seeded())
    with pytest.raises(ValueError, match="a label for each token is needed"):
        TASKS["token"].member_losses(torch.zeros(2, 9, 3), torch.zeros(2, 7, dtype=torch.long), 1)
