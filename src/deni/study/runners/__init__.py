"""Where packs are trained: in this process, in processes of this machine, on a Ray cluster."""

from deni.study.runners.base import Done, Runner
from deni.study.runners.on_ray import OnRay
from deni.study.runners.processes import Processes
from deni.study.runners.serial import Serial

__all__ = ["Done", "OnRay", "Processes", "Runner", "Serial"]
