"""Fine-tuning without the seed lottery.

The names here are public; docs/versioning.md says what that means. Each is imported at its first use: `import deni`
alone loads neither torch nor transformers.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from logging import LogRecord, getLogger
from typing import TYPE_CHECKING, Any

from deni._version import __version__ as __version__

if TYPE_CHECKING:
    from deni.adaptation import adapt as adapt
    from deni.artifact import load as load
    from deni.artifact import push as push
    from deni.deprecation import Renamed
    from deni.errors import InputError as InputError
    from deni.errors import SettingError as SettingError
    from deni.finetune import fine_tune as fine_tune
    from deni.noise import Noise as Noise
    from deni.recipe import Recipe as Recipe
    from deni.schedule import Fork as Fork
    from deni.schedule import Phase as Phase
    from deni.schedule import Schedule as Schedule
    from deni.sklearn import DeniClassifier as DeniClassifier
    from deni.strategies.all_data import AllData as AllData
    from deni.strategies.augmentation import Augmentation as Augmentation
    from deni.strategies.base import Strategy as Strategy
    from deni.strategies.best_practices import BestPractices as BestPractices
    from deni.strategies.contrastive import Contrastive as Contrastive
    from deni.strategies.default import Default as Default
    from deni.strategies.delayed_ensemble import DelayedEnsemble as DelayedEnsemble
    from deni.strategies.deni import DENI as DENI
    from deni.strategies.denials import Denials as Denials
    from deni.strategies.diwa import DiWA as DiWA
    from deni.strategies.ema import EMA as EMA
    from deni.strategies.ensemble import Ensemble as Ensemble
    from deni.strategies.input_noise import InputNoise as InputNoise
    from deni.strategies.l2_sp import L2SP as L2SP
    from deni.strategies.linear_probe import LinearProbe as LinearProbe
    from deni.strategies.llrd import LLRD as LLRD
    from deni.strategies.mixout import Mixout as Mixout
    from deni.strategies.multi_dropout import MultiDropout as MultiDropout
    from deni.strategies.noisy_interpolation import NoisyInterpolation as NoisyInterpolation
    from deni.strategies.prior_noise import PriorNoise as PriorNoise
    from deni.strategies.r_drop import RDrop as RDrop
    from deni.strategies.refit import Refit as Refit
    from deni.strategies.reinit import Reinit as Reinit
    from deni.strategies.soup import Soup as Soup
    from deni.strategies.swa import SWA as SWA
    from deni.strategies.weight_noise import WeightNoise as WeightNoise
    from deni.training.trainer import PopulationTrainer as PopulationTrainer
    from deni.tuning.base import Tuning as Tuning
    from deni.tuning.full import Full as Full
    from deni.tuning.ia3 import IA3 as IA3
    from deni.tuning.lora import Lora as Lora
    from deni.tuning.prompt import Prompt as Prompt
    from deni.tuning.unipelt import UniPELT as UniPELT

# Module -> its public names, from what most need to what few do. The classes of strategies and tunings are public, too:
# each is found in the file of its name.
_PUBLIC = {
    "training.trainer": "PopulationTrainer",
    "sklearn": "DeniClassifier",
    "artifact.loading": "load",
    "artifact.publishing": "push",
    "finetune.running": "fine_tune",
    "adaptation.running": "adapt",
    "recipe": "Recipe",
    "strategies.base": "Strategy",
    "tuning.base": "Tuning",
    "schedule": "Schedule Phase Fork",
    "noise": "Noise",
    "errors": "InputError SettingError",
}
_MODULES = {name: f"deni.{module}" for module, names in _PUBLIC.items() for name in names.split()}
_RENAMED: dict[str, Renamed] = {}  # public names of earlier versions


def _is_no_advice(record: LogRecord) -> bool:
    """Whether a line of bitsandbytes' log is about something else than an optional package."""
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


# PEFT imports bitsandbytes, which then warns that a package is missing which only 4 bits on CPU would be faster with.
getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_no_advice)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from deni.deprecation import deprecate

        now, removal = _RENAMED[name]
        deprecate(f"deni.{name}", f"deni.{now}", removal)
        name = now
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name == "__all__":
        return __dir__()
    if not name.startswith("_"):
        from deni.registry import class_of

        for package in ("strategies", "tuning"):
            with suppress(AttributeError):
                return class_of(f"deni.{package}", name)
    raise AttributeError(f"module 'deni' has no attribute {name!r}")


def __dir__() -> list[str]:
    from deni.strategies import STRATEGIES
    from deni.tuning import TUNINGS

    named = [cls.__name__ for table in (STRATEGIES, TUNINGS) for cls in table.built_in().values()]
    return ["__version__", *_MODULES, *named]
