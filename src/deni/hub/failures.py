"""What the hub refuses or cannot do: one line with what to do, and another try where the fault is its own."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from deni.errors import ArtifactError, InputError

T = TypeVar("T")

WAITS = (1.0, 4.0)  # seconds before another try, after an answer such as 503
_CLIENTS = ("httpx", "httpx2", "httpcore", "requests", "urllib3")  # modules whose errors are of the network
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def patiently(call: Callable[[], T]) -> T:
    """What a call returns; it is repeated where the hub has a fault of its own (5xx)."""
    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            if (status := _status(error)) is None or status < 500:
                raise
        time.sleep(wait)
    return call()


@contextmanager
def reading(name: str, revision: str | None = None) -> Iterator[None]:
    """Around a download: whatever `huggingface_hub` raises is one line.

    Raises:
        ArtifactError: no such model or revision, no access, no network.
    """
    try:
        yield
    except Exception as error:
        if (why := _why_unread(error, name, revision)) is None:
            raise
        raise ArtifactError(why) from error


@contextmanager
def pushing(name: str) -> Iterator[None]:
    """Around an upload: whatever `huggingface_hub` raises is one line.

    Raises:
        InputError: no token, no permission, a push at the same time, no network.
    """
    try:
        yield
    except Exception as error:
        if (why := _why_not_pushed(error, name)) is None:
            raise
        raise InputError(why) from error


def check_online(name: str) -> None:
    """Raise InputError where `HF_HUB_OFFLINE` forbids to push."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{name} cannot be pushed: HF_HUB_OFFLINE is set, unset it")


def _why_unread(error: Exception, name: str, revision: str | None) -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    kinds, status = [type(each) for each in _causes(error)], _status(error)
    if _has(kinds, HFValidationError):
        return f"{name} is neither a folder nor a name that the hub can have: check it"
    if _has(kinds, RevisionNotFoundError):
        return f"{name} has no revision {revision!r} on the hub: give a branch, a tag or a commit of it"
    if _has(kinds, GatedRepoError):
        return f"{name} is gated on the hub: ask for access on its page, then {_LOG_IN}"
    if _has(kinds, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return f"{name}: no such folder, not in the hub's cache, and HF_HUB_OFFLINE is set: unset it, or give a folder"
    if status in (401, 404):
        return f"{name}: no such folder, and no such model on the hub, or a private one: check the name, or {_LOG_IN}"
    if status == 403:
        return f"{name} may not be read with this token: use one that may, or {_LOG_IN}"
    general = _general(error, status, f"{name} cannot be loaded from the hub")
    if general is None and _has(kinds, LocalEntryNotFoundError):
        return f"{name} cannot be loaded from the hub, and is not in its cache ({_first_line(error)}): try again"
    return general


def _why_not_pushed(error: Exception, name: str) -> str | None:
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

    kinds, status = [type(each) for each in _causes(error)], _status(error)
    if _has(kinds, HFValidationError):
        return f"{name} is not a name that the hub can have: give user/name"
    if _has(kinds, LocalTokenNotFoundError) or status == 401:
        return f"{name} cannot be pushed without a valid token: {_LOG_IN}"
    if status == 403:
        return f"{name} may not be written with this token: use one with write permission, or another user/name"
    if status == 404:
        return f"{name} is not there for this token (404): check user and name, or use another token"
    if status in (409, 412):
        return f"{name} was changed by somebody else at the same time ({status}): push again"
    return _general(error, status, f"{name} cannot be pushed", "; what was uploaded is not sent again")


def _general(error: Exception, status: int | None, what: str, kept: str = "") -> str | None:
    """What may happen to uploads and downloads alike; None for what is no fault of hub or network."""
    if status is None:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            return None
        network = [
            each
            for each in _causes(error)
            if isinstance(each, ConnectionError | TimeoutError) or type(each).__module__.split(".")[0] in _CLIENTS
        ]
        return f"{what}: the hub cannot be reached ({_first_line(network[-1])}): check the network" if network else None
    if status == 429:
        return f"{what}: the hub has had too many requests (429): try again in some minutes{kept}"
    if status >= 500:
        return f"{what}: the hub is out of order ({status}, {len(WAITS) + 1} tries): try again later{kept}"
    said = next((each.server_message for each in _causes(error) if getattr(each, "server_message", None)), "")
    return f"{what}: the hub refuses it ({status}{': ' if said else ''}{' '.join(str(said).split())})"


def _has(kinds: list[type], kind: type) -> bool:
    return any(issubclass(each, kind) for each in kinds)


def _causes(error: BaseException) -> Iterator[Any]:
    """An error and what it came from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _status(error: BaseException) -> int | None:
    """The status of the hub's answer that an error is about."""
    for each in _causes(error):
        response = getattr(each, "response", None)
        if response is not None:  # one of an error is false
            return int(response.status_code)
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
