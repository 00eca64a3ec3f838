"""Scores, spread, instability, calibration, uncertainty, differences and cost: NumPy arrays in, numbers out.

Seeds come first: S seeds, N test examples, M members, C classes, K strategies, D datasets, B blocks, R resamples.
docs/statistics.md explains what each measure means and when to use it.
"""

from deni.measures.arrays import Estimate  # a value with its confidence interval
from deni.measures.calibration import (
    Calibration,  # ECE, Brier score and NLL
    CrossFitted,  # a temperature, and its calibration where it was not fitted
    Reliability,  # of each bin: share, confidence, accuracy
    Scaling,  # calibration before and after temperature scaling
    brier_score,  # squared distance of the probabilities from the right answer
    calibration_scores,  # ECE, Brier score and NLL in one
    cross_fit_temperature,  # fit on out-of-fold predictions, measure without a fold
    expected_calibration_error,  # |confidence - accuracy| in bins
    negative_log_likelihood,  # minus the log probability of the right class
    reliability,  # confidence and accuracy in bins
    temperature_scaling,  # fit on dev texts, compare on test texts
)
from deni.measures.changes import (
    paired_difference,  # of two models' scores, over other texts
    share_with_interval,  # exact interval of a share
    sign_test,  # McNemar's exact test
    signed_rank_test,  # Wilcoxon's test of paired errors
)
from deni.measures.comparison import (
    Block,  # paired predictions under one choice of labels and texts
    Difference,  # a mean difference with its interval, and of each block
    PairedSpread,  # a ratio of SDs with interval and p-value
    holm,  # p-values of several tests, adjusted
    log_sd_ratio,  # paired bootstrap of the log ratio of two SDs
    mean_difference,  # bootstrap over seeds x examples
    pitman_morgan,  # test of two paired SDs
    sd_permutation,  # test of two paired SDs that keeps its level with failed runs
)
from deni.measures.conformal import (
    intervals,  # of numbers, from the residuals of calibration texts
    mean_p_values,  # of several models, each calibrated on other texts
    p_values,  # how ill a class fits, among calibration texts
    prediction_sets,  # the classes whose p-value is large enough
    probability_scores,  # how ill each class fits a text
    texts_needed,  # the fewest calibration texts for a level
    too_few,  # whether there are fewer
)
from deni.measures.cost import (
    Gain,  # gain and drop in SD per extra member-step
    gain_per_step,  # what an extra member-step buys
    pareto_front,  # strategies that no other one beats
)
from deni.measures.detection import (
    detectable_difference,  # smallest mean difference that is found
    detectable_sd_ratio,  # smallest ratio of SDs that is found
    sd_ratio_power,  # power of the Pitman-Morgan test
)
from deni.measures.importance import (
    Importance,  # of one source of randomness
    configuration_sds,  # of one source in each configuration of the others
    contributed_sd,  # what a source does when nothing else moves
    importance,  # contributed minus mitigated, in SDs of all sources
    mitigated_sd,  # what is left without it
)
from deni.measures.instability import (
    fleiss_kappa,  # agreement beyond chance
    jensen_shannon,  # divergence of the seeds' probabilities
    pairwise_disagreement,  # share of examples on which two seeds differ
)
from deni.measures.margins import (
    F1_MARGIN,  # 0.3 points of F1
    LEAST_SEEDS,  # for a claim about spread
    SD_MARGIN,  # ratio of SDs
    NonInferiority,  # estimate, bound, p-value and verdict
    non_inferior_mean,  # not worse in the mean by the margin
    non_inferior_sd,  # not less stable by the margin
)
from deni.measures.ranks import (
    LEAST_DATASETS,  # for a critical difference
    CriticalDifference,  # mean ranks and how far apart they must be
    critical_difference,  # Friedman and Nemenyi
)
from deni.measures.resampling import other_texts  # interval of a score over other test texts
from deni.measures.scope import (
    Gaussian,  # where vectors of labeled texts lie
    fit_gaussian,  # mean and shrunken covariance
    mahalanobis,  # distances to the mean
    percentiles,  # how many known values are below
)
from deni.measures.scores import (
    Score,  # the type of a score function
    accuracy,  # share of right answers
    failed_runs,  # at or below chance, or far below the median
    macro_f1,  # mean F1 of the classes
    majority_score,  # score of the majority class
)
from deni.measures.selective import (
    AccuracyCoverage,  # accuracy of the surest answers, with its bound
    Selection,  # where an accuracy is supported
    accuracy_bound,  # of so many answers with so many errors
    accuracy_coverage,  # at each coverage of a grid
    answers_needed,  # to support an accuracy
    choose_threshold,  # the largest coverage that is supported
)
from deni.measures.spread import (
    expected_shortfall,  # mean of the worst share
    mean_interval,  # mean with its t interval
    sd_bootstrap,  # SD with its bootstrap interval
    sd_interval,  # SD with its chi-square interval
    standard_deviation,  # SD over the seeds, also within blocks
)
from deni.measures.uncertainty import (
    RiskCoverage,  # error rate against the share answered
    mutual_information,  # uncertainty from the members' disagreement
    predictive_entropy,  # all uncertainty
    risk_coverage,  # answer the surest first
)

__all__ = [
    "F1_MARGIN",
    "LEAST_DATASETS",
    "LEAST_SEEDS",
    "SD_MARGIN",
    "AccuracyCoverage",
    "Block",
    "Calibration",
    "CriticalDifference",
    "CrossFitted",
    "Difference",
    "Estimate",
    "Gain",
    "Gaussian",
    "Importance",
    "NonInferiority",
    "PairedSpread",
    "Reliability",
    "RiskCoverage",
    "Scaling",
    "Score",
    "Selection",
    "accuracy",
    "accuracy_bound",
    "accuracy_coverage",
    "answers_needed",
    "brier_score",
    "calibration_scores",
    "choose_threshold",
    "configuration_sds",
    "contributed_sd",
    "critical_difference",
    "cross_fit_temperature",
    "detectable_difference",
    "detectable_sd_ratio",
    "expected_calibration_error",
    "expected_shortfall",
    "failed_runs",
    "fit_gaussian",
    "fleiss_kappa",
    "gain_per_step",
    "holm",
    "importance",
    "intervals",
    "jensen_shannon",
    "log_sd_ratio",
    "macro_f1",
    "mahalanobis",
    "majority_score",
    "mean_difference",
    "mean_interval",
    "mean_p_values",
    "mitigated_sd",
    "mutual_information",
    "negative_log_likelihood",
    "non_inferior_mean",
    "non_inferior_sd",
    "other_texts",
    "p_values",
    "paired_difference",
    "pairwise_disagreement",
    "pareto_front",
    "percentiles",
    "pitman_morgan",
    "prediction_sets",
    "predictive_entropy",
    "probability_scores",
    "reliability",
    "risk_coverage",
    "sd_bootstrap",
    "sd_interval",
    "sd_permutation",
    "sd_ratio_power",
    "share_with_interval",
    "sign_test",
    "signed_rank_test",
    "standard_deviation",
    "temperature_scaling",
    "texts_needed",
    "too_few",
]
