"""An output layer that is fitted again when training has ended."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deni.errors import SettingError
from deni.randomness import global_generators
from deni.strategies import SWA, Default, DelayedEnsemble, DiWA, Ensemble, LinearProbe, Refit, Soup
from deni.tuning import IA3, Lora, Prompt
from tests.helpers.plain import bert, make, rows, tensors, trained
from tests.helpers.tiny import make_tiny

HEAD = ("classifier.weight", "classifier.bias")
APART = {"members": 3, "ensemble_from": 0.5, "variance": 0.3, "scale": "uniform"}


def pooled(values, data, **config):
    """What a plain BERT with these parameters feeds into its output layer, without dropout."""
    model = bert(**config)
    model.load_state_dict(values)
    with torch.no_grad():
        return model.eval().bert(tensors(data)[0]).pooler_output.numpy()


def logits(member, features):
    return features @ member["classifier.weight"].numpy().T + member["classifier.bias"].numpy()


def probability(logits):
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def by_hand(member, data, c=0.3):
    """The probabilities of scikit-learn's regression on the features of a member."""
    features, labels = pooled(member, data), tensors(data)[1].numpy()
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(features, labels)
    return features, fitted.predict_proba(features)


def test_it_is_the_regression_of_scikit_learn_on_the_fine_tuned_encoder(tmp_path):
    data = rows()
    plain, refitted = trained(tmp_path), trained(tmp_path, Refit(refit_c=0.3))
    before, after = (each.population.member(0) for each in (plain, refitted))
    assert all(torch.equal(before[name], after[name]) for name in before if name not in HEAD)
    features, expected = by_hand(before, data)
    np.testing.assert_allclose(probability(logits(after, features)), expected, rtol=0, atol=1e-5)
    assert np.abs(probability(logits(before, features)) - expected).max() > 1e-2
    np.testing.assert_allclose(np.exp(refitted.predict(data).predictions), expected, rtol=0, atol=1e-5)
    with torch.no_grad():  # the ordinary model that the trainer shows afterwards
        shown = refitted.model(input_ids=tensors(data)[0]).logits.softmax(-1).numpy()
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-5)


def test_cv_is_the_grid_search_of_scikit_learn(tmp_path):
    data = rows()
    labels = tensors(data)[1].numpy()
    member = trained(tmp_path, Refit("cv")).population.member(0)
    features = pooled(member, data)
    pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": [10 ** (step / 2) / 32 for step in range(-5, 9)]}
    search = GridSearchCV(pipe, grid, scoring="neg_log_loss", cv=StratifiedKFold(5)).fit(features, labels)
    np.testing.assert_allclose(probability(logits(member, features)), search.predict_proba(features), rtol=0, atol=1e-4)


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_each_member_that_votes_gets_its_own(tmp_path, engine):
    data = rows()
    trainer = trained(tmp_path, DelayedEnsemble(**APART) + Refit(refit_c=0.3), engine=engine)
    assert trainer.population.size == 3
    said = []
    for at in range(3):
        member = trainer.population.member(at)
        features, expected = by_hand(member, data)
        np.testing.assert_allclose(probability(logits(member, features)), expected, rtol=0, atol=1e-5)
        said.append(expected)
    np.testing.assert_allclose(np.exp(trainer.predict(data).predictions), np.mean(said, 0), rtol=0, atol=1e-5)


def test_each_run_of_a_pack_or_of_an_ensemble_has_its_own_texts_and_features(tmp_path):
    data = [rows(seed=1), rows(seed=2)]
    options = {"model_init": lambda: bert(seed=None), "seeds": [5, 6], "train": data}
    trainer = trained(tmp_path, Ensemble(members=2) + Refit(refit_c=0.3), **options)
    for run in range(4):
        member = trainer.population.member(run)
        features, expected = by_hand(member, data[run // 2])
        np.testing.assert_allclose(probability(logits(member, features)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "strategy",
    [
        Refit(refit_c=0.3) + SWA(),
        SWA() + Refit(refit_c=0.3),
        Refit(refit_c=0.3) + Soup(members=2, ingredients="greedy"),
        LinearProbe(probe_c=1.0) + DiWA(members=2) + Refit(refit_c=0.3),
    ],
)
def test_it_fits_what_the_others_keep_whatever_the_order(tmp_path, strategy):
    data = rows()
    member = trained(tmp_path, strategy, eval_dataset=rows(8, seed=4)).population.member(0)
    features, expected = by_hand(member, data)
    np.testing.assert_allclose(probability(logits(member, features)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tuning", [Lora(lora_r=4), IA3(), Prompt(prompt_tokens=3)])
@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_with_every_tuning_the_members_fit_their_own_texts(tmp_path, tuning, engine):
    """A regression that is hardly penalized fits 20 texts exactly on 32 features, whatever the tuning."""
    data = rows(20)

    def loaded():
        with global_generators(3):
            return tuning.apply(bert())

    options = {"model_init": loaded, "train": data, "engine": engine, "args": {"num_train_epochs": 1}}
    trainer = trained(tmp_path, DelayedEnsemble(members=2, ensemble_from=0.5) + Refit(refit_c=1e4), **options)
    members = trainer.predict_members(data).argmax(-1)  # (N, M)
    assert (members == tensors(data)[1].numpy()[:, None]).all()
    plain = trained(tmp_path, DelayedEnsemble(members=2, ensemble_from=0.5), **options)
    assert (plain.predict_members(data).argmax(-1) != tensors(data)[1].numpy()[:, None]).any()


def test_numbers_get_ridge_regression(tmp_path):
    data = [{**row, "labels": [float(sum(row["input_ids"])) / 100, float(row["input_ids"][0])]} for row in rows()]
    model = bert(num_labels=2, problem_type="regression")
    member = trained(tmp_path, Refit(refit_c=0.5), model=model, train=data).population.member(0)
    features = pooled(member, data, num_labels=2)
    expected = make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(features, [row["labels"] for row in data])
    np.testing.assert_allclose(logits(member, features), expected.predict(features), atol=1e-8)


def test_each_label_has_a_regression_of_its_own(tmp_path):
    data = [{**row, "labels": [float(row["input_ids"][at] % 2) for at in range(3)]} for row in rows()]
    member = trained(tmp_path, Refit(refit_c=1.0), train=data).population.member(0)
    features = pooled(member, data)
    said = 1 / (1 + np.exp(-logits(member, features)))
    for label in range(3):
        expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        expected.fit(features, [row["labels"][label] for row in data])
        np.testing.assert_allclose(said[:, label], expected.predict_proba(features)[:, 1], atol=1e-5)


def test_words_are_what_counts_in_token_classification(tmp_path):
    data = [{**row, "labels": [-100, *[each % 3 for each in row["input_ids"][1:]]]} for row in rows()]
    trainer = trained(tmp_path, Refit(refit_c=1.0), model=make_tiny("bert", task="Token"), train=data)
    member, model = trainer.population.member(0), make_tiny("bert", task="Token")
    model.load_state_dict(member)
    with torch.no_grad():
        states = model.eval().bert(tensors(data)[0]).last_hidden_state[:, 1:].flatten(0, 1).numpy()
    labels = np.array([row["labels"][1:] for row in data]).reshape(-1)
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(states, labels)
    np.testing.assert_allclose(probability(logits(member, states)), expected.predict_proba(states), atol=1e-5)


def test_class_weights_count(tmp_path):
    data, weights = rows(), torch.tensor([0.2, 1.0, 5.0])
    member = trained(tmp_path, Refit(refit_c=0.3), class_weights=weights).population.member(0)
    features, labels = pooled(member, data), tensors(data)[1].numpy()
    x, counts = StandardScaler().fit_transform(features), weights.numpy()[labels]
    logistic = LogisticRegression(C=0.3, max_iter=1000).fit(x, labels, sample_weight=counts / counts.mean())
    np.testing.assert_allclose(probability(logits(member, features)), logistic.predict_proba(x), rtol=0, atol=1e-5)


def test_weights_of_rows_count_and_soft_labels_do_not(tmp_path):
    counts = np.array([0.5, 1.0, 4.0])[np.arange(40) % 3]
    soft = {"soft_labels": [0.2, 0.3, 0.5]}
    data = [{**row, "sample_weight": float(counts[at]), **soft} for at, row in enumerate(rows())]
    member = trained(tmp_path, Refit(refit_c=0.3), train=data).population.member(0)
    features, labels = pooled(member, data), tensors(data)[1].numpy()
    x = StandardScaler().fit(features, sample_weight=counts).transform(features)
    logistic = LogisticRegression(C=0.3, max_iter=1000).fit(x, labels, sample_weight=counts / counts.mean())
    np.testing.assert_allclose(probability(logits(member, features)), logistic.predict_proba(x), rtol=0, atol=1e-5)


def test_the_best_checkpoint_is_fitted_too(tmp_path):
    args = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    args |= {"metric_for_best_model": "step", "greater_is_better": False}
    measured = []

    def first_is_best(prediction):
        measured.append(1)
        return {"step": len(measured)}

    options = {"args": args, "eval_dataset": rows(8, seed=4), "compute_metrics": first_is_best}
    member = trained(tmp_path, Refit(refit_c=0.3), **options).population.member(0)
    features, expected = by_hand(member, rows())
    np.testing.assert_allclose(probability(logits(member, features)), expected, rtol=0, atol=1e-5)
    last = trained(tmp_path, Refit(refit_c=0.3)).population.member(0)
    assert not torch.equal(member["bert.pooler.dense.weight"], last["bert.pooler.dense.weight"])


def test_zero_is_default(tmp_path):
    one, other = (trained(tmp_path, strategy).population.member(0) for strategy in (Refit(0.0), Default()))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_member_whose_features_are_not_finite_keeps_its_layer(tmp_path, caplog):
    trainer = make(tmp_path, Refit(refit_c=0.3))
    before = trainer.population.member(0)["classifier.weight"].clone()
    with torch.no_grad():
        trainer.population.values["bert.pooler.dense.bias"].fill_(float("nan"))
    trainer.strategy.finish(trainer.population, None, trainer.phases.outputs)
    assert torch.equal(trainer.population.member(0)["classifier.weight"], before)
    assert "refit leaves the output layer of member 0 as it is: its features are not finite" in caplog.text


def test_what_cannot_be_fitted_is_refused_before_the_first_step(tmp_path):
    alike = [{**row, "labels": 1} for row in rows()]
    few = [{**row, "labels": at} for at, row in enumerate(rows(3))]
    frozen = bert()
    frozen.classifier.bias.requires_grad_(False)
    for options, why in (
        ({"train": alike}, "at least two classes, and all have the same one"),
        ({"train": few}, "no class has two: give C a number in place of cv"),
        ({"model": frozen}, "refit needs an output layer that is one linear layer and trains as a whole"),
    ):
        trainer = make(tmp_path, Refit("cv"), **options)
        with pytest.raises(SettingError, match=why):
            trainer.train()
        assert trainer.state.global_step == 0


@pytest.mark.parametrize(("c", "why"), [(-1.0, "finite and at least 0"), (float("nan"), "finite"), ("c", "or cv")])
def test_a_bad_c_is_refused(c, why):
    with pytest.raises(SettingError, match=why):
        Refit(c)
