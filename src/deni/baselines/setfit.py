"""SetFit (arXiv 2209.11055): the encoder tuned on pairs of texts, and logistic regression on its vectors."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.baselines.base import Baseline, FittedBaseline
from deni.baselines.majority import LEAST
from deni.errors import InputError, SettingError
from deni.randomness import global_generators
from deni.tasks import TASKS, Task

if TYPE_CHECKING:
    from deni.data import Text, Texts
    from deni.recipe import Recipe


@dataclass(frozen=True)
class SetFit(Baseline, name="setfit", row=5):
    """SetFit of the package `setfit`, with its own defaults: contrastive tuning on pairs of texts, then a regression.

    It takes minutes to hours, so it only runs where it is named. The number of its steps grows with the square of the
    number of texts, unless it is limited. Classes that have an order are taken as classes.

    Args:
        setfit_iterations: pairs of one class, and pairs of two, that are drawn for each text. Unset takes all there
            are, as the package does.
        setfit_steps: steps of the tuning at most; unset for no limit.
    """

    when: ClassVar[str] = "As the usual few-shot method, which trains the encoder on pairs of texts."
    packages: ClassVar[tuple[str, ...]] = ("setfit", "sentence-transformers", "scikit-learn")
    on_request: ClassVar[bool] = True

    setfit_iterations: int | None = None
    setfit_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("setfit_iterations", "setfit_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingError(f"{name} must be at least 1, not {value}")

    def settings(self) -> dict[str, Any]:
        self.check()
        return super().settings()

    def why_unfit(self, task: Task, pairs: bool) -> str:
        if task.of_words:
            return "reads whole texts, and here each word has a tag: take frequent_tag"
        if not task.distribution:
            return f"is for one class a text, not for {task.name}: take frozen or tfidf"
        return "reads single texts, and here each row has two: take frozen or tfidf" if pairs else ""

    def check(self) -> None:
        """The package is missing."""
        if find_spec("setfit") is None:
            raise InputError('the baseline setfit needs the package setfit: pip install "deni[setfit]"')

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        from deni.models.devices import find_device
        from deni.models.loading import load_config, locate

        gold = TASKS[train.task].encode(train.labels or (), labels, train.source)
        if max(Counter(gold).values()) < 2:
            raise InputError(f"{train.source}: setfit learns from two texts of one class, and no class has two")
        with _quiet():
            import setfit
            from sentence_transformers import SentenceTransformer
            from sklearn.linear_model import LogisticRegression

            load_config(recipe.model)  # refuses what needs code of its own
            body = SentenceTransformer(locate(recipe.model), device=str(find_device(device)))
            # Not `SetFitModel.from_pretrained`: it would unpickle a head that lies beside the encoder.
            head = LogisticRegression(class_weight="balanced" if recipe.class_weights else None)
            model = setfit.SetFitModel(model_body=body, model_head=head)
            if recipe.max_length is not None:
                body.max_seq_length = min(recipe.max_length, body.max_seq_length or recipe.max_length)
            steps = _tune(model, train.texts, gold, self.setfit_iterations, self.setfit_steps)

        def outputs(texts: Sequence[Text]) -> np.ndarray:
            with _quiet():
                found = model.predict_proba(list(texts), as_numpy=True, show_progress_bar=False)
            probabilities = np.zeros((len(texts), len(labels)))
            probabilities[:, model.model_head.classes_] = found
            return np.log(np.maximum(probabilities, LEAST))

        return FittedBaseline(labels, outputs, {"steps": steps, "max_length": body.max_seq_length})


def _tune(model: Any, texts: Sequence[Text], gold: Sequence[int], iterations: int | None, steps: int | None) -> int:
    """Both phases of SetFit; the steps of the first."""
    import setfit
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback

    with TemporaryDirectory() as folder:
        arguments = setfit.TrainingArguments(
            output_dir=folder,
            num_iterations=iterations,
            max_steps=-1 if steps is None else steps,
            report_to="none",
            logging_strategy="no",
            logging_first_step=False,
            save_strategy="no",
            show_progress_bar=False,
        )
        rows = Dataset.from_dict({"text": list(texts), "label": list(gold)})
        trainer = setfit.Trainer(model=model, args=arguments, train_dataset=rows)
        for each in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(each)
        trainer.train()
        return int(trainer.st_trainer.state.global_step)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, neither bars nor lines of the packages; what they draw does not reach the caller's generators."""
    import datasets
    import setfit.logging

    from deni.models.loading import quiet_loading

    bars = not datasets.are_progress_bars_disabled()
    setfit.logging.set_verbosity_error()  # its modules turn it up when they are imported
    datasets.disable_progress_bars()
    try:
        with global_generators(), quiet_loading(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'pin_memory' argument is set as true", UserWarning)
            yield
    finally:
        if bars:
            datasets.enable_progress_bars()
