"""Noise on the pooled output and on the embeddings."""

import copy
import math

import pytest
import torch
from transformers import TrainerCallback

from deni.models.architectures import HEADS
from deni.population import Population
from deni.randomness import Sources
from deni.strategies import Default, DelayedEnsemble, InputNoise
from tests.helpers.plain import NO_DROPOUT, Watch, bert, distance, fine_tune, make, rows, same, tensors, trained, values
from tests.helpers.tiny import ARCHITECTURES

MOMENTS = [6, 8, 10, 12, 14, 16]  # of 20 steps, counted from 0
MIDDLE = {"noise_every": 0.1}


class Capture(TrainerCallback):
    """What reaches the head's dropout less what the pooler gives, step by step."""

    def __init__(self):
        self.added = []

    def on_train_begin(self, args, state, control, model=None, **_):
        model.model.bert.pooler.register_forward_hook(self._pooled)
        model.model.dropout.register_forward_hook(self._arrived)

    def _pooled(self, module, inputs, output):
        self.clean = output.detach().clone()

    def _arrived(self, module, inputs, output):
        self.added.append(inputs[0].detach() - self.clean)


def test_noise_from_its_source_is_on_the_pooled_output_of_exactly_these_steps(tmp_path):
    capture = Capture()
    trained(tmp_path, InputNoise(**MIDDLE), callbacks=[capture])
    assert len(capture.added) == 20
    assert [step for step, added in enumerate(capture.added) if added.any()] == MOMENTS
    draws = Sources(42)["noise"]
    for step in MOMENTS:
        expected = 0.15**0.5 * torch.randn(4, 32, generator=draws, dtype=torch.float64)
        assert (capture.added[step] - expected).abs().max() < 1e-12


def test_the_variance_is_the_one_that_was_asked_for():
    model = bert(**NO_DROPOUT)
    population = Population(model, [Sources(0)], "loop")
    population.module.train()
    ids = torch.randint(1, 60, (500, 3), generator=torch.Generator().manual_seed(0))
    clean, noisy = [], []
    model.bert.pooler.register_forward_hook(lambda *each: clean.append(each[-1].detach()))
    model.dropout.register_forward_hook(lambda *each: noisy.append(each[-1].detach()))
    with InputNoise(variance=0.3).training(population, 375, 1250):
        population.module(input_ids=ids)
    for step in (374, 376, 1125):
        with InputNoise(variance=0.3).training(population, step, 1250):
            population.module(input_ids=ids)
    added = noisy[0] - clean[0]  # 16 000 draws: the spread is known to about one part in 90
    assert float(added.var()) == pytest.approx(0.3, rel=0.04)
    assert float(added.mean()) == pytest.approx(0.0, abs=0.02)
    assert all(torch.equal(a, b) for a, b in zip(noisy[1:], clean[1:], strict=True))


def test_training_is_a_plain_loop_with_noise_that_lets_the_gradient_pass_and_the_masks_be(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, InputNoise(**MIDDLE), callbacks=[watch])
    draws, weight, gradients = Sources(42)["noise"], "bert.encoder.layer.0.attention.self.query.weight", []

    def forward(model, ids, step):
        pooled = model.bert(input_ids=ids).pooler_output
        if step in MOMENTS:
            pooled = pooled + 0.15**0.5 * torch.randn(4, 32, generator=draws, dtype=torch.float64)
        return model.classifier(model.dropout(pooled))

    expected = fine_tune(
        bert(), forward=forward, gradients=lambda model, _: gradients.append(model.get_parameter(weight).grad.clone())
    )
    assert distance(expected, trainer.population.member(0)) < 1e-10
    assert distance(expected, trained(tmp_path).population.member(0)) > 1e-3
    for step in MOMENTS:
        assert gradients[step].abs().max() > 1e-6
        assert (gradients[step] - watch.gradients[step][weight]).abs().max() < 1e-10


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_noise_on_the_embeddings_is_a_plain_loop_with_noisy_embeddings(tmp_path, alpha):
    trainer = trained(tmp_path, InputNoise(noise_where="embeddings", neftune_alpha=alpha, **MIDDLE))
    draws = Sources(42)["noise"]

    def forward(model, ids, step):
        embedded = model.get_input_embeddings()(ids)  # (4, 9, 32)
        if step in MOMENTS and alpha:
            uniform = torch.rand(embedded.shape, generator=draws, dtype=torch.float64)
            embedded = embedded + (2 * uniform - 1) * alpha / math.sqrt(9 * 32)
        elif step in MOMENTS:
            embedded = embedded + 0.15**0.5 * torch.randn(embedded.shape, generator=draws, dtype=torch.float64)
        return model(inputs_embeds=embedded).logits

    expected = fine_tune(bert(), forward=forward)
    assert distance(expected, trainer.population.member(0)) < 1e-10
    assert distance(expected, trained(tmp_path).population.member(0)) > 1e-3


def test_neftune_is_uniform_within_alpha_over_the_root_of_tokens_times_features():
    model = bert(**NO_DROPOUT)
    population = Population(model, [Sources(0)], "loop")
    population.module.train()
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda *each: seen.append(each[-1].detach()))
    ids = torch.randint(1, 60, (50, 16), generator=torch.Generator().manual_seed(0))
    population.module(input_ids=ids)
    clean = seen.pop()
    with InputNoise(noise_where="embeddings", neftune_alpha=5.0).training(population, 6, 20):
        model.get_input_embeddings().register_forward_hook(lambda *each: seen.append(each[-1].detach()))
        population.module(input_ids=ids)
    added, bound = seen[-1] - clean, 5 / math.sqrt(16 * 32)
    assert float(added.abs().max()) <= bound
    assert float(added.abs().max()) > 0.999 * bound
    assert float(added.var()) == pytest.approx(bound**2 / 3, rel=0.03)


@pytest.mark.parametrize("where", ["pooled", "embeddings"])
def test_members_have_noise_of_their_own_and_both_engines_agree(tmp_path, where):
    ended = []
    for engine in ("loop", "stacked"):
        noise = InputNoise(noise_where=where, noise_from=0.0, noise_until=1.0, noise_every=0.05)
        strategy = noise + DelayedEnsemble(members=3, ensemble_from=0.5, variance=0.0)
        trainer = trained(tmp_path, strategy, model=bert(**NO_DROPOUT), engine=engine)
        assert trainer.population.engine_name == engine
        ended.append(values(trainer))
    assert distance(*ended) < 1e-9
    head = ended[0]["classifier.weight"]  # nothing but this noise tells them apart
    assert (head[0] - head[1]).abs().max() > 1e-5


@pytest.mark.parametrize("where", ["pooled", "embeddings"])
def test_a_pack_is_its_runs_alone_also_with_texts_of_other_lengths(tmp_path, where):
    def masked(data, more):
        ids = [[*row["input_ids"], *more] for row in data]
        return [{**row, "input_ids": i, "attention_mask": [1] * len(i)} for row, i in zip(data, ids, strict=True)]

    sets, strategy = [masked(rows(), []), masked(rows(seed=2), [7, 8])], InputNoise(noise_where=where, **MIDDLE)
    options = {"model_init": lambda: bert(), "active_vocabulary": False}
    pack = values(trained(tmp_path, strategy, train=sets, seeds=[5, 6], **options))
    for run, seed in enumerate((5, 6)):
        alone = values(trained(tmp_path, strategy, train=sets[run], seeds=[seed], **options))
        assert distance({name: value[run : run + 1] for name, value in pack.items()}, alone) < 1e-9


@pytest.mark.parametrize("off", [{"variance": 0.0}, {"noise_from": 0.5, "noise_until": 0.5}])
def test_without_variance_or_steps_it_is_default(tmp_path, off):
    assert same(values(trained(tmp_path, InputNoise(**off))), values(trained(tmp_path, Default())))


def test_predictions_are_without_noise(tmp_path):
    seen = []

    class Evaluate(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **_):
            if state.global_step in MOMENTS:
                with torch.no_grad():
                    was = {name: value.clone() for name, value in model.member(0).items()}
                    plain = torch.func.functional_call(bert().eval(), was, tensors(rows(5))[:1]).logits
                seen.append((plain.log_softmax(-1), torch.tensor(trainer.predict(rows(5)).predictions)))

    trainer = make(tmp_path, InputNoise(**MIDDLE), callbacks=[Evaluate()])
    trainer.train()
    assert len(seen) == len(MOMENTS)
    assert all((a - b).abs().max() < 1e-12 for a, b in seen)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_architecture_gets_it_once_and_in_front_of_the_output_layer(tiny, batch, architecture, engine):
    """RoBERTa's head applies one dropout twice: in front of the layer that pools, and behind it."""
    model = tiny(architecture).eval()  # without dropout
    clean = copy.deepcopy(model)
    arrived = []
    head = clean.get_submodule(HEADS[clean.config.model_type])
    head.register_forward_pre_hook(lambda module, inputs: arrived.append(inputs[0].detach()))
    inputs = {key: value for key, value in batch().items() if key != "labels"}
    clean(**inputs)
    population = Population(model, [Sources(0)], engine)
    population.fork(2)
    draws = Sources(0)["noise"]
    with InputNoise().training(population, 6, 20):
        for _ in range(2):  # two passes of one step
            noisy = []
            for chunk in population.module.chunks:
                population.module.focus(chunk)
                noisy.append(population.module(**population.module.fold(inputs)).logits.detach())
            noise = [0.15**0.5 * torch.randn(4, 32, generator=draws, dtype=torch.float64) for _ in range(2)]
            expected = torch.cat([head(arrived[0] + each).detach() for each in noise])
            del arrived[1:]
            assert (torch.cat(noisy) - expected).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variance": -0.1}, "variance must be finite and at least 0, not -0.1"),
        ({"neftune_alpha": 5.0}, "neftune_alpha is for noise on the embeddings: add noise_where='embeddings'"),
        ({"noise_where": "labels"}, "unknown noise_where 'labels': choose from pooled, embeddings"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        InputNoise(**setting)
