"""A trained model over HTTP: `deni serve`."""

from deni.serving.limits import Limits

__all__ = ["Limits"]
