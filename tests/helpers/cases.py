"""Each strategy in a short run: its settings, and those that switch it off."""

from dataclasses import dataclass, field


@dataclass
class Case:
    """A strategy in a run of 40 steps.

    Args:
        settings: with which it does something; "FILE" stands for a file of augmented texts.
        off: with which it does nothing.
    """

    settings: dict = field(default_factory=dict)
    off: dict = field(default_factory=dict)


CASES = {
    "default": Case(),
    "all_data": Case({"most_texts": 30}),
    "best_practices": Case({"epochs": 4}, {"epochs": None, "weight_decay": None, "warmup_ratio": None}),
    "ensemble": Case({"members": 3}, {"members": 1}),
    "input_noise": Case({"noise_every": 0.1}, {"variance": 0.0}),
    "weight_noise": Case({"noise_every": 0.1}, {"variance": 0.0}),
    "prior_noise": Case({}, {"variance": 0.0}),
    "swa": Case({}, {"average_from": 1.0}),
    "ema": Case({"ema_decay": 0.9}, {"ema_decay": 0.0}),
    "mixout": Case({}, {"mixout": 0.0}),
    "augmentation": Case({"augmented": "FILE", "epochs": 2}, {"augmentations": 0, "epochs": None}),
    "delayed_ensemble": Case({"members": 3, "ensemble_from": 0.8}, {"members": 1}),
    "noisy_interpolation": Case({"members": 3}, {"members": 1}),
    "deni": Case({"members": 3}, {"members": 1}),
    "denials": Case(
        {"members": 3, "augmented": "FILE", "epochs": 2, "member_order": "own", "antithetic": True},
        {"members": 1, "augmentations": 0, "epochs": None},
    ),
    "contrastive": Case({"refit_c": 0.1}, {"contrastive_weight": 0.0, "refit_c": 0.0}),
    "diwa": Case({"members": 3, "run_length": 1.0}, {"members": 1, "run_length": 1.0}),
    "l2_sp": Case({"l2_strength": 1.0}, {"l2_strength": 0.0}),
    "linear_probe": Case({"probe_c": 0.01}, {"probe_c": 0.0}),
    "llrd": Case({"layer_decay": 0.5}, {"layer_decay": 1.0}),
    "multi_dropout": Case({}, {"dropout_samples": 1}),
    "r_drop": Case({}, {"r_drop_alpha": 0.0}),
    "refit": Case({"refit_c": 0.1}, {"refit_c": 0.0}),
    "reinit": Case({}, {"reinit_layers": 0}),
    "soup": Case({"members": 3, "ingredients": "greedy", "soup_from": 0.8}, {"members": 1}),
}
