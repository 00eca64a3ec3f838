"""Fine-tuning by a recipe: from labeled examples to a trained population."""

from deni.finetune.result import Evaluation, FineTuneResult
from deni.finetune.running import check_cross_validation, fine_tune

__all__ = ["Evaluation", "FineTuneResult", "check_cross_validation", "fine_tune"]
