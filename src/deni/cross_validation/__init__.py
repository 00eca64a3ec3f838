"""Cross-validation of a whole fine-tuning, and what is fitted on its out-of-fold predictions."""

from deni.cross_validation.adding import fit_added

__all__ = ["fit_added"]
