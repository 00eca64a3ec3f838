"""Task-adaptive pre-training: an encoder goes on learning from unlabeled texts before any label is seen."""

from deni.adaptation.result import Adaptation
from deni.adaptation.running import adapt

__all__ = ["Adaptation", "adapt"]
