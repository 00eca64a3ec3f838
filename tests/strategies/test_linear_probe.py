"""An output layer that is fitted before anything else moves."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deni.cli import main
from deni.errors import InputError
from deni.randomness import derive, global_generators
from deni.strategies import L2SP, Default, DelayedEnsemble, Ensemble, LinearProbe, Mixout, PriorNoise
from deni.strategies.linear_probe import GRID, fit
from deni.study.plan import read_study
from deni.tasks import find_task
from deni.tasks.cross_validation import choose_c
from deni.tuning import IA3, Lora
from tests.helpers.plain import bert, distance, fine_tune, lora, make, parameters, rows, same, tensors, trained, values
from tests.helpers.tiny import make_tiny

HEAD = ("classifier.weight", "classifier.bias")


def pooled(model, data):
    """What a plain BERT feeds into its output layer: the pooled output, without dropout."""
    with torch.no_grad():
        return model.eval().bert(tensors(data)[0]).pooler_output.numpy()


def started(folder, strategy, **options):
    """A trainer whose strategy has begun, before the first step."""
    trainer = make(folder, strategy, **options)
    trainer.create_optimizer()
    trainer.phases.begin(0)
    return trainer


def head(trainer, run=0):
    """Weight and bias of a run's output layer, also of one that PEFT has wrapped."""
    own = {name: value for name, value in trainer.population.member(run).items() if "classifier" in name}
    return [next(value for name, value in own.items() if name.endswith(key)) for key in ("weight", "bias")]


def probability(logits):
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("c", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("evaluates", [3, 64])
def test_the_output_layer_is_the_regression_of_scikit_learn(tmp_path, c, evaluates):
    data = rows()
    trainer = started(tmp_path, LinearProbe(probe_c=c), args={"per_device_eval_batch_size": evaluates})
    features, labels = pooled(bert(), data), tensors(data)[1].numpy()
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(features, labels)
    scaler, logistic = expected
    weight, bias = (value.numpy() for value in head(trainer))
    # Rounding of the features moves the point where the solver stops.
    np.testing.assert_allclose(weight, logistic.coef_ / scaler.scale_, atol=1e-6)
    np.testing.assert_allclose(bias, logistic.intercept_ - logistic.coef_ @ (scaler.mean_ / scaler.scale_), atol=1e-6)
    np.testing.assert_allclose(
        probability(features @ weight.T + bias), expected.predict_proba(features), rtol=0, atol=1e-6
    )
    mine, before = trainer.population.member(0), parameters(bert())
    assert all(torch.equal(mine[name], before[name]) for name in before if name not in HEAD)


def test_training_is_a_plain_loop_that_starts_there(tmp_path):
    mine = trained(tmp_path, LinearProbe(probe_c=1.0)).population.member(0)
    model, data = bert(), rows()
    scaler = StandardScaler()
    x = scaler.fit_transform(pooled(model, data))
    logistic = LogisticRegression(max_iter=1000).fit(x, tensors(data)[1].numpy())
    with torch.no_grad():
        model.classifier.weight.copy_(torch.tensor(logistic.coef_ / scaler.scale_))
        shift = logistic.coef_ @ (scaler.mean_ / scaler.scale_)
        model.classifier.bias.copy_(torch.tensor(logistic.intercept_ - shift))
    expected = fine_tune(model)
    felt = [{name: value for name, value in each.items() if "key.bias" not in name} for each in (expected, mine)]
    assert distance(*felt) < 1e-5
    assert distance(expected, trained(tmp_path).population.member(0)) > 1e-2


def test_two_classes_have_the_probabilities_of_the_regression():
    draw = np.random.default_rng(0)
    x, labels = draw.normal(3, 2, (60, 5)), draw.integers(0, 2, 60)
    weight, bias = fit(x, labels, classes=2, c=0.3)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000)).fit(x, labels)
    np.testing.assert_allclose(probability(x @ weight.T + bias), expected.predict_proba(x), atol=1e-12)
    np.testing.assert_allclose(weight.sum(0), 0, atol=1e-12)


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 4]])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_class_without_a_text_is_never_chosen(present, intercept):
    draw = np.random.default_rng(0)
    labels = np.array(present)[draw.integers(0, len(present), 80)]
    weight, bias = fit(draw.normal(size=(80, 4)), labels, classes=5, c=1.0, intercept=intercept)
    absent = [at for at in range(5) if at not in present]
    assert (weight[absent] == 0).all()
    assert (weight[present] != 0).all()
    chosen = (draw.normal(size=(1000, 4)) * 3 @ weight.T + bias).argmax(1)
    assert set(chosen) == set(present)


def test_a_feature_of_any_size_or_none_at_all_counts_alike():
    """C means the same for every model: features are standardised. One that never changes has no weight."""
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(50, 3)), draw.integers(0, 3, 50)
    sizes, shift = np.array([1e-3, 1.0, 1e3]), np.array([5.0, -2.0, 7.0])
    weight, bias = fit(x, labels, 3, 1.0)
    other, moved = fit(np.column_stack([x * sizes + shift, np.full(50, 0.3)]), labels, 3, 1.0)
    np.testing.assert_allclose(other[:, :3] * sizes, weight, atol=1e-8)
    np.testing.assert_allclose(moved + other[:, :3] @ shift, bias, atol=1e-8)
    assert np.abs(other[:, 3]).max() < 1e-12


def test_without_a_bias_nothing_is_shifted():
    draw = np.random.default_rng(0)
    x, labels = draw.normal(1, 2, (50, 3)), draw.integers(0, 3, 50)
    weight, bias = fit(x, labels, 3, 1.0, intercept=False)
    scale = StandardScaler(with_mean=False).fit(x).scale_
    expected = LogisticRegression(fit_intercept=False, max_iter=1000).fit(x / scale, labels)
    np.testing.assert_allclose(weight, expected.coef_ / scale, atol=1e-12)
    assert (bias == 0).all()


def test_numbers_get_ridge_regression(tmp_path):
    data = [{**row, "labels": [float(sum(row["input_ids"])) / 100, float(row["input_ids"][0])]} for row in rows()]
    model = bert(num_labels=2, problem_type="regression")
    features = pooled(bert(num_labels=2), data)
    trainer = started(tmp_path, LinearProbe(probe_c=0.5), model=model, train=data)
    expected = make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(features, [row["labels"] for row in data])
    weight, bias = (value.numpy() for value in head(trainer))
    np.testing.assert_allclose(features @ weight.T + bias, expected.predict(features), atol=1e-8)


def test_one_number_a_text_is_known_by_the_output(tmp_path):
    data = [{**row, "labels": float(row["input_ids"][0])} for row in rows()]
    trainer = started(tmp_path, LinearProbe(probe_c=1.0), model=bert(num_labels=1), train=data)
    features = pooled(bert(num_labels=1), data)
    expected = make_pipeline(StandardScaler(), Ridge()).fit(features, [row["labels"] for row in data])
    weight, bias = (value.numpy() for value in head(trainer))
    np.testing.assert_allclose((features @ weight.T + bias)[:, 0], expected.predict(features), atol=1e-5)


def test_each_label_has_a_regression_of_its_own(tmp_path):
    """The third label is on all texts, the fourth on none: their log odds, with one text of either kind added."""
    data = [{**row, "labels": [float(row["input_ids"][at] % 2) for at in (0, 1)] + [1.0, 0.0]} for row in rows()]
    features = pooled(bert(num_labels=4), data)
    trainer = started(tmp_path, LinearProbe(probe_c=1.0), model=bert(num_labels=4), train=data)
    weight, bias = (value.numpy() for value in head(trainer))
    said = 1 / (1 + np.exp(-(features @ weight.T + bias)))
    for label in (0, 1):
        expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        expected.fit(features, [row["labels"][label] for row in data])
        np.testing.assert_allclose(said[:, label], expected.predict_proba(features)[:, 1], atol=1e-6)
    np.testing.assert_allclose(said[:, 2:], np.tile([41 / 42, 1 / 42], (40, 1)))


def test_words_are_what_counts_in_token_classification(tmp_path):
    model = make_tiny("bert", task="Token")
    data = [
        {"input_ids": row["input_ids"][: 5 + at % 4], "attention_mask": [1] * (5 + at % 4),
         "labels": [-100, 0, *[each % 3 for each in row["input_ids"][2 : 5 + at % 4]]]}
        for at, row in enumerate(rows())
    ]  # fmt: skip

    def collate(given):
        longest = max(len(row["labels"]) for row in given)
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return {
            key: torch.tensor([row[key] + [each] * (longest - len(row[key])) for row in given])
            for key, each in fill.items()
        }

    features, labels = [], []
    with torch.no_grad():
        for row in data:
            features.append(model.eval().bert(torch.tensor([row["input_ids"]])).last_hidden_state[0, 1:])
            labels += row["labels"][1:]
    features = torch.cat(features).numpy()
    expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    trainer = started(
        tmp_path, LinearProbe(probe_c=1.0), model=make_tiny("bert", task="Token"), train=data, data_collator=collate
    )
    weight, bias = (value.numpy() for value in head(trainer))
    np.testing.assert_allclose(probability(features @ weight.T + bias), expected.predict_proba(features), atol=1e-5)


@pytest.mark.parametrize("name", ["roberta", "distilbert", "modernbert", "gpt2", "llama", "deberta-v2"])
def test_before_the_first_step_any_model_says_what_the_regression_says(tmp_path, name):
    """Whatever pools the tokens, in front of the output layer or behind it: the model fits its labelled texts."""
    model = make_tiny(name)
    trainer = started(tmp_path, LinearProbe(probe_c=1e4), model=model)
    data = rows()
    said = trainer.predict(data).predictions.argmax(-1)
    assert (said == tensors(data)[1].numpy()).mean() > 0.95
    plain = make(tmp_path, Default(), model=make_tiny(name))
    assert (plain.predict(data).predictions.argmax(-1) == tensors(data)[1].numpy()).mean() < 0.7


@pytest.mark.parametrize("tuning", [Lora(lora_r=4), IA3()])
@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_with_peft_all_runs_begin_with_the_same_output_layer(tmp_path, tuning, engine):
    """A fresh adapter changes nothing, so the features of all seeds are alike."""
    with global_generators(3):
        pretrained = bert(seed=None).state_dict()

    def loaded():
        model = bert(seed=None)
        model.load_state_dict({k: v for k, v in pretrained.items() if "classifier" not in k}, strict=False)
        return tuning.apply(model)

    options = {"model_init": loaded, "seeds": [5, 6], "engine": engine}
    plain, probed = make(tmp_path, Default(), **options), started(tmp_path, LinearProbe(probe_c=1.0), **options)
    weights = [[head(each, run)[0] for run in (0, 1)] for each in (plain, probed)]
    assert not torch.equal(*weights[0])
    assert torch.equal(*weights[1])
    model = bert()
    model.load_state_dict(pretrained)
    weight, bias = fit(pooled(model, rows()), tensors(rows())[1].numpy(), 3, 1.0)
    assert (weights[1][0] - torch.tensor(weight)).abs().max() < 1e-6
    assert (head(probed, 1)[1] - torch.tensor(bias)).abs().max() < 1e-6


def test_each_run_has_the_regression_on_its_own_texts(tmp_path):
    data = [rows(seed=1), rows(seed=2)]
    options = {"model_init": lambda: bert(seed=None), "seeds": [5, 6]}
    pack = started(tmp_path, LinearProbe(probe_c=1.0), train=data, **options)
    for run, seed in enumerate((5, 6)):
        alone = started(tmp_path, LinearProbe(probe_c=1.0), train=data[run], **{**options, "seeds": [seed]})
        assert all(torch.equal(mine, own) for mine, own in zip(head(pack, run), head(alone), strict=True))


def test_each_run_of_an_ensemble_has_its_own_features(tmp_path):
    trainer = started(tmp_path, LinearProbe(probe_c=1.0) + Ensemble(members=2), model_init=lambda: bert(seed=None))
    for run in range(2):
        model = bert()
        model.load_state_dict(trainer.population.member(run))
        weight, _ = fit(pooled(model, rows()), tensors(rows())[1].numpy(), 3, 1.0)
        assert (head(trainer, run)[0] - torch.tensor(weight)).abs().max() < 1e-6


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_an_ensemble_from_one_probe_is_its_runs_alone_with_it(tmp_path, engine):
    """With LoRA the features of all runs are those of the frozen encoder: they begin with one output layer, then go
    their own ways."""
    data, strategy = rows(), LinearProbe(probe_c=1.0)
    options = {"model_init": lambda: Lora(lora_r=4, lora_alpha=4).apply(bert()), "engine": engine}
    x = StandardScaler().fit(features := pooled(bert(), data))
    logistic = LogisticRegression(max_iter=1000).fit(x.transform(features), tensors(data)[1].numpy())
    begun = started(tmp_path, strategy + Ensemble(members=3), **options)
    for run in range(3):
        np.testing.assert_allclose(head(begun, run)[0].numpy(), logistic.coef_ / x.scale_, atol=1e-6)
    (factor, *_) = [value for name, value in begun.population.values.items() if "lora_A" in name]
    assert not torch.equal(factor[0], factor[1])
    ensemble = trained(tmp_path, strategy + Ensemble(members=3), **options)
    assert ensemble.member_steps == 60
    seeds = [42, *(derive(42, "ensemble", run) for run in (1, 2))]
    alone = [trained(tmp_path, strategy, seeds=[seed], **options) for seed in seeds]
    for run, each in enumerate(alone):
        assert distance(felt(ensemble.population.member(run)), felt(each.population.member(0))) < 1e-9
    said = np.stack([np.exp(each.predict(data).predictions) for each in alone]).mean(0)
    np.testing.assert_allclose(np.exp(ensemble.predict(data).predictions), said, atol=1e-9)


def felt(values):
    """Without the bias of keys: its gradient is rounding alone, of which Adam makes steps."""
    return {name: value for name, value in values.items() if "key.bias" not in name}


def test_in_bfloat16_it_is_near_the_regression_in_full(tmp_path):
    with torch.no_grad():
        half = started(tmp_path, LinearProbe(probe_c=1.0), model=bert().float(), args={"bf16": True})
        full = started(tmp_path, LinearProbe(probe_c=1.0))
        data = rows()
        said = [each.predict(data).predictions for each in (half, full)]
    assert head(half)[0].dtype == torch.float32
    assert 1e-6 < np.abs(np.exp(said[0]) - np.exp(said[1])).max() < 0.1


def test_the_order_decides_what_the_start_is(tmp_path):
    """Mixout of the head goes back to the fitted layer, or to the random one; noise comes before the fit or after."""
    fitted, random = head(started(tmp_path, LinearProbe(probe_c=1.0)))[0], bert().classifier.weight
    kept = [
        started(tmp_path, strategy).population.kept["mixout"]["classifier.weight"][0]
        for strategy in (LinearProbe(probe_c=1.0) + Mixout(), Mixout() + LinearProbe(probe_c=1.0))
    ]
    assert torch.equal(kept[0], fitted)
    assert torch.equal(kept[1], random)
    first = started(tmp_path, PriorNoise() + LinearProbe(probe_c=1.0))
    model = bert()
    model.load_state_dict(first.population.member(0))
    weight, _ = fit(pooled(model, rows()), tensors(rows())[1].numpy(), 3, 1.0)
    assert (head(first)[0] - torch.tensor(weight)).abs().max() < 1e-6
    assert (head(started(tmp_path, LinearProbe(probe_c=1.0) + PriorNoise()))[0] - fitted).abs().max() > 1e-3
    for strategy in (LinearProbe(probe_c=1.0) + L2SP(), L2SP() + LinearProbe(probe_c=1.0)):
        assert "classifier.weight" not in started(tmp_path, strategy).population.kept["l2_sp"]


def test_it_draws_from_no_source_and_leaves_the_global_generators(tmp_path):
    plain, probed = make(tmp_path, Default()), make(tmp_path, LinearProbe(probe_c=1.0))
    before = torch.get_rng_state()
    probed.phases.begin(0)
    assert torch.equal(before, torch.get_rng_state())
    assert probed.population.module.training == plain.population.module.training
    states = [each.population.sources[0].state_dict() for each in (plain, probed)]
    assert states[0].keys() == states[1].keys()


def test_zero_is_default(tmp_path):
    assert same(values(trained(tmp_path, LinearProbe(0.0))), values(trained(tmp_path, Default())))


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_resumed_is_not_stopped(tmp_path, engine):
    args = {"save_strategy": "steps", "save_steps": 9}
    strategy = LinearProbe(probe_c=1.0) + DelayedEnsemble(members=2, ensemble_from=0.4)
    whole = trained(tmp_path, strategy, args=args, engine=engine)
    resumed = make(tmp_path, strategy, args=args, engine=engine)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))


# ---- C by cross-validation, and the scale --------------------------------------------------------------------------


def clusters(classes=3, count=60, width=8, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return draw.normal(size=(classes, width))[labels] * 2 + draw.normal(1, 2, (count, width)), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_cv_is_the_grid_search_of_scikit_learn(classes):
    x, labels = clusters(classes)
    # For two classes the penalty is that of two rows of weights, which is half of that of their difference.
    cs = [step / 8 * (2 if classes == 2 else 1) for step in GRID]
    pipe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": cs}
    search = GridSearchCV(pipe, grid, scoring="neg_log_loss", cv=StratifiedKFold(5)).fit(x, labels)
    assert search.best_params_["logisticregression__C"] not in (cs[0], cs[-1])
    weight, bias = LinearProbe(probe_c="cv")._fitted(x, labels, classes, "single_label", True, None)
    np.testing.assert_allclose(probability(x @ weight.T + bias), search.predict_proba(x), atol=1e-6)


class MeanNorm(TransformerMixin, BaseEstimator):
    """Divides by the mean norm of what it is fitted on."""

    def fit(self, x, y=None):
        self.size_ = np.linalg.norm(x, axis=1).mean()
        return self

    def transform(self, x):
        return x / self.size_


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_the_scale_is_that_of_logits_of_texts_left_out(scale):
    x, labels = clusters()
    pipe = make_pipeline(MeanNorm(), LogisticRegression(max_iter=1000))
    grid = {"logisticregression__C": list(GRID)}
    best = GridSearchCV(pipe, grid, scoring="neg_log_loss", cv=StratifiedKFold(5)).fit(x, labels).best_estimator_
    logits = cross_val_predict(best, x, labels, cv=StratifiedKFold(5), method="decision_function")
    centered = logits - logits.mean(1, keepdims=True)
    weight, bias = LinearProbe(probe_c="cv", probe_scale=scale)._fitted(x, labels, 3, "single_label", True, None)
    found = x @ weight.T + bias
    expected = best.decision_function(x) * scale / centered.std()
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), rtol=0, atol=1e-5
    )


def test_a_head_of_another_scale_is_the_same_head_but_for_the_scale():
    x, labels = clusters()
    one, other = (
        LinearProbe(probe_c="cv", probe_scale=scale)._fitted(x, labels, 3, "single_label", True, None)
        for scale in (0.5, 1.0)
    )
    for half, whole in zip(one, other, strict=True):
        np.testing.assert_allclose(2 * half, whole, rtol=1e-12)


def test_c_means_the_same_for_two_classes_and_for_many():
    """By minimizing the softmax loss with a penalty on the weights of each class."""
    x, labels = clusters(2)
    x = StandardScaler().fit_transform(x)

    def objective(flat):
        weight, bias = flat[:16].reshape(2, 8), flat[16:]
        logits = x @ weight.T + bias
        losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(60), labels]
        return 0.3 * losses.sum() + (weight**2).sum() / 2

    best = minimize(objective, np.zeros(18), options={"gtol": 1e-8}).x
    expected = probability(x @ best[:16].reshape(2, 8).T + best[16:])
    found = [fit(x, labels, 2, 0.3, penalty=penalty) for penalty in ("each", "one")]
    given = [probability(x @ weight.T + bias) for weight, bias in found]
    np.testing.assert_allclose(given[0], expected, rtol=0, atol=5e-4)  # where scikit-learn's solver stops
    assert np.abs(given[1] - expected).max() > 1e-2
    three = clusters(3)
    assert all((a == b).all() for a, b in zip(*(fit(*three, 3, 0.3, penalty=p) for p in ("one", "each")), strict=True))


@pytest.mark.parametrize("c", [0.1, "cv"])
def test_class_weights_count_in_the_regression(tmp_path, c):
    data = [{**row, "labels": row["labels"] % 2 if at % 5 else 2} for at, row in enumerate(rows())]
    features, labels = pooled(bert(), data), tensors(data)[1].numpy()
    weights = torch.tensor([0.2, 1.0, 5.0])
    trainer = started(tmp_path, LinearProbe(probe_c=c), train=data, class_weights=weights)
    counts = weights.numpy()[labels]
    weight, bias = (value.numpy() for value in head(trainer))
    if c == "cv":
        expected = LinearProbe("cv")._fitted(features, labels, 3, "single_label", True, weights.double().numpy())
        np.testing.assert_allclose(weight, expected[0], atol=1e-5)
        plain = LinearProbe("cv")._fitted(features, labels, 3, "single_label", True, None)
        assert np.abs(plain[0] - expected[0]).max() > 1e-2
        return
    x = StandardScaler().fit_transform(features)
    logistic = LogisticRegression(C=c, max_iter=1000).fit(x, labels, sample_weight=counts / counts.mean())
    np.testing.assert_allclose(probability(features @ weight.T + bias), logistic.predict_proba(x), rtol=0, atol=1e-5)


def test_weights_of_rows_count_in_the_regression_and_rows_without_a_label_do_not(tmp_path):
    counts = np.array([0.0, 0.5, 1.0, 4.0])[np.arange(40) % 4]
    soft = {"soft_labels": [0.2, 0.3, 0.5]}
    data = [{**row, "sample_weight": float(counts[at]), **soft} for at, row in enumerate(rows())]
    for row in data[5:8]:
        row["labels"] = -100
    trainer = started(tmp_path, LinearProbe(probe_c=0.1), train=data)
    kept = (counts > 0) & (tensors(data)[1].numpy() >= 0)
    features, labels, counts = pooled(bert(), data)[kept], tensors(data)[1].numpy()[kept], counts[kept]
    x = StandardScaler().fit(features, sample_weight=counts).transform(features)
    logistic = LogisticRegression(C=0.1, max_iter=1000).fit(x, labels, sample_weight=counts / counts.mean())
    weight, bias = (value.numpy() for value in head(trainer))
    np.testing.assert_allclose(probability(features @ weight.T + bias), logistic.predict_proba(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("by_norm", [False, True])
@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression", "token"])
def test_a_row_that_counts_three_times_is_three_rows(task, by_norm):
    draw = np.random.default_rng(0)
    x, counts = draw.normal(size=(30, 4)), draw.integers(1, 4, 30)
    y = {"multi_label": draw.integers(0, 2, (30, 3)), "regression": draw.normal(size=(30, 3))}
    labels = y.get(task, draw.integers(0, 3, 30))
    options = {"classes": 3, "task": task, "by_norm": by_norm}
    weighted = fit(x, labels, c=0.5 * counts.mean(), rows=counts.astype(float), **options)  # C is for weights of 1
    repeated = fit(np.repeat(x, counts, 0), np.repeat(labels, counts, 0), c=0.5, **options)
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)
    assert np.abs(fit(x, labels, c=0.5 * counts.mean(), **options)[0] - repeated[0]).max() > 1e-2


@pytest.mark.parametrize("task", ["single_label", "regression", "token"])
def test_cross_validation_weighs_rows_it_fits_and_rows_it_leaves_out(task):
    draw = np.random.default_rng(1)
    x = draw.normal(size=(60, 4))
    labels = (
        x[:, 0] + draw.normal(size=60) if task == "regression" else (x[:, 0] + draw.normal(size=60) > 0).astype(int)
    )
    kind, grid, classes = find_task(task), [0.01, 0.1, 1.0, 10.0], 1 if task == "regression" else 2

    def chosen(rows):
        how = partial(fit, classes=classes, task=task)
        return choose_c(lambda x, y, c, **own: how(x, y, c=c, **own), x, labels, kind, grid, None, rows)

    same, plain = chosen(np.full(60, 3.0)), chosen(None)
    np.testing.assert_allclose(same.losses, plain.losses, rtol=1e-9)
    counts = draw.choice([0.1, 1.0, 5.0], 60)
    found = chosen(counts)
    at = grid.index(found.c)
    if task == "regression":
        each = (found.logits[:, 0] - labels) ** 2
    else:
        each = -np.log(probability(found.logits)[np.arange(60), labels])
    assert found.losses[at] == pytest.approx((counts * each).sum() / counts.sum(), rel=1e-9)


def test_runs_with_the_same_features_are_fitted_once(tmp_path, monkeypatch):
    fits = []
    monkeypatch.setattr("deni.strategies.linear_probe.choose_c", lambda *given: fits.append(1) or choose_c(*given))
    with global_generators(3):
        pretrained = bert(seed=None).state_dict()

    def loaded():
        model = bert(seed=None)
        model.load_state_dict(pretrained)
        return Lora(lora_r=4).apply(model)

    strategy = LinearProbe(probe_c="cv", probe_scale=0.75)  # of no other test
    trainer = started(tmp_path, strategy + Ensemble(members=3), model_init=loaded)
    assert len(fits) == 1
    assert torch.equal(head(trainer, 0)[0], head(trainer, 2)[0])
    again = LinearProbe(probe_c="cv", probe_scale=0.8)
    started(tmp_path, again, model=bert(4))
    started(tmp_path, again, model=bert(5))
    assert len(fits) == 3


def test_the_scale_of_several_labels_is_that_of_their_log_odds_and_numbers_have_none(tmp_path):
    data = [{**row, "labels": [float(row["input_ids"][at] % 2) for at in (0, 1, 2)]} for row in rows()]
    labels = np.array([row["labels"] for row in data])
    features = pooled(bert(), data)
    trainer = started(tmp_path, LinearProbe("cv", probe_scale=2.0), train=data)
    expected = LinearProbe("cv", probe_scale=2.0)._fitted(features, labels, 3, "multi_label", True, None)
    np.testing.assert_allclose(head(trainer)[0].numpy(), expected[0], atol=1e-4)
    x = features / np.linalg.norm(features, axis=1).mean()
    ratios = [LogisticRegression(max_iter=1000).fit(x, label).coef_[0] for label in labels.T]
    assert [np.sign(own @ other) for own, other in zip(ratios, expected[0], strict=True)] == [1, 1, 1]
    model = bert(problem_type="regression")
    trainer = started(tmp_path, LinearProbe("cv"), model=model, train=data)
    assert not torch.equal(head(trainer)[0], bert().classifier.weight)
    with pytest.raises(ValueError, match="probe_scale scales the logits of classes, and regression has none"):
        started(tmp_path, LinearProbe("cv", probe_scale=1.0), model=bert(problem_type="regression"), train=data)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"probe_c": "best"}, "probe_c must be a number or cv, not 'best'"),
        ({"probe_scale": 1.0}, "probe_scale needs probe_c=cv, not 0.001"),
        ({"probe_c": "cv", "probe_scale": 0.0}, "probe_scale must be finite and above 0"),
        ({"probe_penalty": "both"}, "unknown probe_penalty"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, why):
    with pytest.raises(ValueError, match=why):
        LinearProbe(**settings)


def test_cv_is_a_flag_and_a_setting_of_a_study(tmp_path, tickets, model_folder):
    flags = ["--strategy", "linear_probe", "--probe-c", "cv", "--probe-scale", "0.5", "--model", model_folder]
    out = tmp_path / "model"
    done = CliRunner().invoke(main, ["train", tickets, *flags, "--epochs", "1", "--no-progress", "--output", str(out)])
    assert done.exit_code == 0, done.output
    settings = json.loads((out / "deni.json").read_text())["strategy"]["settings"]
    assert settings == {"probe_c": "cv", "probe_penalty": "one", "probe_scale": 0.5}
    wrong = CliRunner().invoke(main, ["train", tickets, "--probe-c", "cw", "--output", str(tmp_path / "other")])
    assert (wrong.exit_code, "neither a number nor cv" in wrong.output) == (2, True)
    study = tmp_path / "study.yaml"
    head = f"datasets: [{tickets}]\nmodels: [{model_folder}]\nseeds: 1\nstrategies: [linear_probe]\n"
    study.write_text(head + "factor: {probe_c: [0.1, cv]}\n")
    assert [job.recipe.strategy.probe_c for job in read_study(study).jobs] == [0.1, "cv"]
    study.write_text(head + "factor: {probe_c: [0.1, cw]}\n")
    with pytest.raises(InputError, match="expected a number or one of cv, not 'cw'"):
        read_study(study)


@pytest.mark.parametrize("c", [-1.0, float("inf"), float("nan")])
def test_a_bad_c_is_refused(c):
    with pytest.raises(ValueError, match="probe_c must be finite and at least 0"):
        LinearProbe(c)


def test_what_cannot_be_fitted_is_refused(tmp_path):
    alike = [{**row, "labels": 1} for row in rows()]
    with pytest.raises(ValueError, match="at least two classes, and all have the same one"):
        trained(tmp_path, LinearProbe(probe_c=1.0), train=alike)
    with pytest.raises(ValueError, match="one class for each text"):
        fit(np.eye(3), np.eye(3), 3, 1.0)
    with pytest.raises(ValueError, match="is not finite: likely fp16 overflowed"):
        fit(np.full((3, 2), np.inf), np.arange(3), 3, 1.0)
    model = lora()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    with pytest.raises(ValueError, match="an output layer that is one linear layer and trains as a whole"):
        trained(tmp_path, LinearProbe(probe_c=1.0), model=model)


def test_a_feature_that_hardly_varies_gets_no_weight_beyond_measure():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(40, 5))
    labels = (features[:, 0] > 0).astype(int)
    without, bias = fit(features, labels, classes=2, c=1.0)
    features = np.hstack([features, 1e-40 * draw.normal(size=(40, 1))])
    weight, same = fit(features, labels, classes=2, c=1.0)
    assert np.abs(weight[:, 5]).max() < 1e-30
    assert np.allclose(weight[:, :5], without)
    assert np.allclose(same, bias)
