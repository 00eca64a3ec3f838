"""Code in an input, which must not be run: it makes a file whose name is in the environment."""

from __future__ import annotations

import base64
from typing import Any

RAN = "FUZZ_RAN"  # environment variable: the file that code from an input makes


class Payload:
    """Unpickled, it makes the file that `RAN` names."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CODE,)


CODE = f"import os; open(os.environ[{RAN!r}], 'w').close()"
HIDDEN = base64.b64encode(CODE.encode()).decode()  # for places without quotes
MODULE = f"""{CODE}
from transformers import BertConfig as Config, BertForSequenceClassification as Model
from transformers import PreTrainedTokenizerFast as Tokenizer
"""
TEMPLATE = "{{ cycler.__init__.__globals__.os.popen('touch ' + cycler.__init__.__globals__.os.environ['FUZZ_RAN']) }}"
YAML_TAG = f'!!python/object/apply:builtins.exec ["{CODE}"]'
