"""Distillation: one model learns from the vote of many, on texts that nobody labeled."""

from deni.data.pool import Pool, make_pool
from deni.distillation.options import Distillation
from deni.distillation.student import Student, make_student
from deni.distillation.training import distil, train_student

__all__ = ["Distillation", "Pool", "Student", "distil", "make_pool", "make_student", "train_student"]
