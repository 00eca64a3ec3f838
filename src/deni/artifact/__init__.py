"""Save, load, export and push a trained population: safetensors and JSON only."""

from deni.artifact.classifier import Classifier
from deni.artifact.exporting import export
from deni.artifact.folder import BASE, FOLDS, FORMAT
from deni.artifact.info import describe
from deni.artifact.loading import load, read_info
from deni.artifact.out_of_fold import FILE as OUT_OF_FOLD
from deni.artifact.out_of_fold import OutOfFold, as_bytes, digests_of, read_out_of_fold
from deni.artifact.publishing import push
from deni.artifact.saving import how_to_read, members_as_bytes, save, weight_sizes
from deni.artifact.scope import FILE as SCOPE
from deni.artifact.scope import Scope, read_scope, scope_of
from deni.artifact.sets import Conformal
from deni.artifact.skeleton import Reading
from deni.outputs import INFO

__all__ = [
    "BASE",
    "FOLDS",
    "FORMAT",
    "INFO",
    "OUT_OF_FOLD",
    "SCOPE",
    "Classifier",
    "Conformal",
    "OutOfFold",
    "Reading",
    "Scope",
    "as_bytes",
    "describe",
    "digests_of",
    "export",
    "how_to_read",
    "load",
    "members_as_bytes",
    "push",
    "read_info",
    "read_out_of_fold",
    "read_scope",
    "save",
    "scope_of",
    "weight_sizes",
]
