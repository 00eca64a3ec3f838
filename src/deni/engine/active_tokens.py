"""The active vocabulary: train only the rows of an embedding that the training texts use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    DefaultDataCollator,
    default_data_collator,
)

from deni.models.pair_rows import PairCollator

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Optimizers that move each element by its own gradient alone, so that a row without gradient stays where it is.
ELEMENTWISE = ("adamw_torch", "adamw_torch_fused", "sgd", "rmsprop", "adagrad")
# They leave the ids as they are, and add padding only.
KNOWN_COLLATORS = (DataCollatorWithPadding, DataCollatorForTokenClassification, DefaultDataCollator, PairCollator)


class ActiveEmbedding(nn.Module):
    """An embedding whose rows of some ids are trainable and whose other rows come from the frozen table.

    Exact under Adam without weight decay, since a row without gradient never moves. The ids are mapped inside, so
    the model's code sees the original ones. The row of `padding_idx` gets no gradient in `nn.Embedding` and is
    never active here.

    Args:
        embedding: the embedding to replace, `(V, D)`.
        ids: the active ids, sorted and distinct, `(A,)`.

    >>> plain = nn.Embedding(9, 2)
    >>> active = ActiveEmbedding(plain, torch.tensor([2, 5]))
    >>> torch.equal(active(torch.tensor([[2, 3]])), plain(torch.tensor([[2, 3]]))), tuple(active.weight.shape)
    (True, (2, 2))
    """

    ids: Tensor
    table: Tensor
    places: Tensor

    def __init__(self, embedding: nn.Embedding, ids: Tensor) -> None:
        super().__init__()
        table = embedding.weight.detach()
        self.weight = nn.Parameter(table[ids].clone())  # (A, D)
        places = torch.full((len(table),), -1, dtype=torch.long, device=table.device)
        places[ids] = torch.arange(len(ids), device=table.device)
        self.register_buffer("table", table, persistent=False)  # (V, D)
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("places", places, persistent=False)  # (V,), -1 where frozen
        self.num_embeddings, self.embedding_dim = table.shape
        self.padding_idx = embedding.padding_idx

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of `ids`: any shape `(...)`, result `(..., D)`."""
        places = self.places[ids]
        trained = F.embedding(places.clamp(min=0), self.weight)
        return torch.where((places >= 0).unsqueeze(-1), trained, F.embedding(ids, self.table))

    def full(self, rows: Tensor) -> Tensor:
        """The whole table with these rows in place: `(A, D)` becomes `(V, D)`."""
        table = self.table.to(rows, copy=True)
        table[self.ids] = rows
        return table


def activate(model: nn.Module, ids: Tensor) -> list[str]:
    """Replace the input embedding by one that trains the rows of `ids` only.

    Args:
        model: its `get_input_embeddings()` is replaced, if that is a plain trainable `nn.Embedding` not tied to
            another layer and without hooks; else nothing happens.
        ids: token ids that the training sets use.

    Returns:
        the names of the parameters that became smaller.
    """
    find = getattr(model, "get_input_embeddings", None)
    embedding: Any = find() if find is not None else None  # a module of the user's own may have none
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad:
        return []
    if embedding.max_norm is not None or embedding.scale_grad_by_freq:
        return []
    if embedding._forward_hooks or embedding._forward_pre_hooks:
        return []
    owners = [module for module in model.modules() if any(p is embedding.weight for p in module._parameters.values())]
    places = [
        (parent, key) for parent in model.modules() for key, child in parent._modules.items() if child is embedding
    ]
    if len(owners) != 1 or not places:
        return []
    ids = ids.unique()
    if embedding.padding_idx is not None:
        ids = ids[ids != embedding.padding_idx]
    if not len(ids):
        return []
    active = ActiveEmbedding(embedding, ids.to(embedding.weight.device))
    for parent, key in places:
        parent._modules[key] = active
    return [name for name, parameter in model.named_parameters() if parameter is active.weight]


def deactivate(model: nn.Module) -> None:
    """Put plain embeddings back in place of what `activate` made; their tables hold the rows that trained."""
    plain: dict[int, nn.Module] = {}
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if isinstance(child, ActiveEmbedding):
                sizes, table = (child.num_embeddings, child.embedding_dim), child.full(child.weight.detach())
                embedding = nn.Embedding(*sizes, child.padding_idx, _weight=table).train(child.training)
                embedding.weight.requires_grad_(child.weight.requires_grad)
                parent._modules[key] = plain.setdefault(id(child), embedding)


def input_table(model: nn.Module) -> list[str]:
    """The names of the parameter that `activate` would make smaller; none, where a model has no input embedding."""
    find = getattr(model, "get_input_embeddings", None)
    weight = getattr(find() if find else None, "weight", None)
    return [name for name, parameter in model.named_parameters() if parameter is weight]


def same_ids(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether the same token ids are active, or all with both."""
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def moves_own_rows_only(args: TrainingArguments, collator: Any) -> bool:
    """Whether training moves only those rows of the embedding whose tokens are in a training text.

    Args:
        collator: the data collator, also one that removes columns first.
    """
    # Here, since its module imports PEFT, which loading does without.
    from transformers.trainer_utils import RemoveColumnsCollator

    inner = collator.data_collator if type(collator) is RemoveColumnsCollator else collator
    known = inner is default_data_collator or type(inner) in KNOWN_COLLATORS  # a subclass may do anything
    return args.weight_decay == 0 and args.optim in ELEMENTWISE and known


def has_token_column(dataset: Any) -> bool:
    """Whether it is a dataset of `datasets` whose column of token ids is what training sees."""
    from datasets import Dataset

    return type(dataset) is Dataset and "input_ids" in dataset.column_names and dataset.format["type"] != "custom"


def token_ids(datasets: Iterable[Any]) -> Tensor | None:
    """The token ids of all texts, ascending; None where a dataset does not show them, or has none.

    Lists and datasets of `datasets` show them; not streams, nor those with a transform that makes the rows anew.

    >>> token_ids([[{"input_ids": [7, 3]}], [{"input_ids": [5, 3]}]])
    tensor([3, 5, 7])
    """
    ids: set[int] = set()
    for dataset in datasets:
        if has_token_column(dataset):
            rows: Any = dataset["input_ids"]
        elif type(dataset) in (list, tuple) and dataset and isinstance(dataset[0], Mapping):
            rows = [row.get("input_ids", ()) for row in dataset]
        else:
            return None
        for row in rows:
            flat = row.flatten().tolist() if isinstance(row, Tensor) else row
            if flat and isinstance(flat[0], list):  # of both texts of a pair, see `deni.models.pair_rows`
                flat = [token for place in flat for token in place]
            ids.update(flat)
    return torch.tensor(sorted(ids)) if ids else None
