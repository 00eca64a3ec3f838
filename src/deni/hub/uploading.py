"""Uploading the files of a model to the hub, as one commit."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from deni.errors import InputError
from deni.hub.failures import check_online, patiently, pushing
from deni.hub.fetching import FILES

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

LARGE = 2**20  # bytes from which on a file is uploaded by itself, so that it can be seen how far an upload is
# What earlier pushes may have left: a pickle of `transformers.Trainer`, with the token in it, and a page with texts.
REMOVED = ("training_args.bin", "report.html")


def upload(
    name: str,
    files: Mapping[str, bytes | Path],
    *,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload model",
    token: str | None = None,
    progress: bool = False,
) -> CommitInfo:
    """Make a repository hold these files as its model, in one commit; what is there of them already is not sent.

    Args:
        name: `user/name`; it is made where it is not there.
        files: path in the repository -> content, or where it is.
        private: make it a private one.
        revision: the branch, which is made where it is not there; None for the main one.
        message: of the commit.
        token: None for that of the login or `HF_TOKEN`.
        progress: whether to show a bar on standard error.

    Returns:
        the commit.

    Raises:
        InputError: it cannot be pushed; or is to be private, and is there as a public one.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    from deni import __version__
    from deni.progress import ProgressBar

    check_online(name)
    api = HfApi(token=token, library_name="deni", library_version=__version__)
    sizes = {path: len(each) if isinstance(each, bytes) else each.stat().st_size for path, each in files.items()}
    with pushing(name), ProgressBar("push", sum(sizes.values()) / 1e6, unit="MB", shown=progress) as bar:
        patiently(lambda: api.create_repo(name, private=private or None, exist_ok=True))
        if revision is not None:
            patiently(lambda: api.create_branch(name, branch=revision, exist_ok=True))
        found = patiently(lambda: api.model_info(name, revision=revision))
        if private and found.private is False:
            raise InputError(f"{name} is on the hub already, and public: make it private there, or omit --private")
        there = [each.rfilename for each in found.siblings or ()]

        def send() -> CommitInfo:
            added = [
                CommitOperationAdd(path, each if isinstance(each, bytes) else str(each)) for path, each in files.items()
            ]
            done = 0.0
            for each in sorted(added, key=lambda each: sizes[each.path_in_repo]):
                if sizes[each.path_in_repo] >= LARGE:
                    api.preupload_lfs_files(name, [each], revision=revision, free_memory=False)
                done += sizes[each.path_in_repo] / 1e6
                bar.update(done)
            gone = [CommitOperationDelete(path) for path in there if path not in files and _is_of_a_model(path)]
            return api.create_commit(name, [*added, *gone], commit_message=message, revision=revision)

        return patiently(send)


def _is_of_a_model(path: str) -> bool:
    """Whether a file of an earlier push would be read with the new ones, or should not be there at all."""
    return "/" not in path and (path in REMOVED or any(fnmatch(path, pattern) for pattern in FILES))
