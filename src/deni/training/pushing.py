"""`PopulationTrainer.push_to_hub`: the artifact goes to the hub, as `deni push` has it go."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deni.errors import SettingError
from deni.hub.failures import check_online, pushing
from deni.training.compat import announce_push, folder_of

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer

# What `Trainer.push_to_hub` takes for its card -> what `deni.push` calls it; the rest is in the artifact.
_OF_CARD = {"language": "language", "license": "license", "finetuned_from": "base_model", "dataset": "dataset"}


def push_trained(
    trainer: PopulationTrainer,
    commit_message: str | None = "End of training",
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    **of_card: Any,
) -> Any:
    """Save the artifact and push it to `args.hub_model_id`, with a model card; see `deni.push`.

    Args:
        commit_message, blocking, token, revision, private: as those of `Trainer.push_to_hub`; `args` has the defaults.
        of_card: `language`, `license`, `finetuned_from` (the base model's hub id) and `dataset`, for the card.

    Returns:
        the commit, or with `blocking=False` a future of it; None on other processes than the first.
    """
    if unknown := of_card.keys() - _OF_CARD:
        raise SettingError(f"push_to_hub does not take {min(unknown)}: its card takes {', '.join(_OF_CARD)}")
    args = trainer.args
    about = {_OF_CARD[name]: value for name, value in of_card.items() if value is not None}
    if isinstance(about.get("language"), str):
        about["language"] = [about["language"]]
    check_online(args.hub_model_id or "the model")
    announce_push(trainer)
    trainer.save_model()
    if not trainer.is_world_process_zero():
        return None
    token = token if token is not None else args.hub_token
    if (pending := getattr(trainer, "push_in_progress", None)) is not None:  # of a checkpoint
        pending.wait_until_done()
    named = args.hub_model_id or Path(folder_of(args)).absolute().name
    name: str = trainer.hub_model_id or _full_name(named, token)
    send = partial(
        _send,
        folder_of(args),
        name,
        private=bool(args.hub_private_repo if private is None else private),
        revision=args.hub_revision if revision is None else revision,
        message=commit_message or "End of training",
        token=token,
        **about,
    )
    if blocking:
        return send()
    from huggingface_hub import HfApi

    return HfApi().run_as_future(send)


def _send(folder: str, name: str, **options: Any) -> Any:
    from deni.artifact import push

    return push(folder, name, **options).commit


def _full_name(name: str, token: str | None) -> str:
    """A name with the user whose token it is, where it has none."""
    if "/" in name:
        return name
    from huggingface_hub import HfApi

    with pushing(name):
        return f"{HfApi(token=token).whoami()['name']}/{name}"
