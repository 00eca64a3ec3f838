"""Cross-validation of a whole fine-tuning: out-of-fold predictions, and an estimate of the score from them."""

from deni.cross_validation.adding import fit_added
from deni.cross_validation.estimating import estimate
from deni.cross_validation.folds import divide
from deni.cross_validation.training import cross_validate

__all__ = ["cross_validate", "divide", "estimate", "fit_added"]
