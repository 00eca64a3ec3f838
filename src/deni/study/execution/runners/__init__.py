"""Where packs are trained: in this process, in processes of this machine, on a Ray cluster."""

from deni.study.execution.runners.base import PackResult, Runner
from deni.study.execution.runners.on_ray import OnRay
from deni.study.execution.runners.processes import Processes
from deni.study.execution.runners.serial import Serial

__all__ = ["OnRay", "PackResult", "Processes", "Runner", "Serial"]
