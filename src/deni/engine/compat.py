"""Every private name of other packages that the engines touch, with the reason, and the versions it was seen in.

PyTorch's registries of a module (`_parameters`, `_modules`, `_forward_hooks`, `_apply`), its `_foreach_norm`, and the
`_version` of a tensor are used where they are needed: they have been the same since PyTorch 1.
"""

from __future__ import annotations

from torch import nn

from deni.models.hugging_face import hugging_face

# name -> why; of `transformers.PreTrainedModel`
HOOKS = {
    "_require_grads_hook": "transformers 4.57: set while embeddings are made to require gradients",
    "_require_grads_hooks": "transformers 5.23: the same",
}


def disable_input_gradients(model: nn.Module) -> None:
    """Undo `enable_input_require_grads`, which checkpointing needs only where it is reentrant; ours is not.

    Whether it was called shows in a private attribute alone, and `disable_input_require_grads` fails where it was not.
    """
    if any(hasattr(model, name) for name in HOOKS):
        hugging_face(model).disable_input_require_grads()
