"""What `auto` becomes: facts of the labeled texts, a table with evidence, and a recipe with what it says.

`table.py` is the table, and the only place to change what `auto` becomes.
"""

from __future__ import annotations

from deni.auto.decide import as_lines, as_sentence, choose, decide
from deni.auto.facts import Facts, collect_facts
from deni.auto.row import Row
from deni.auto.table import ROWS

__all__ = ["ROWS", "Facts", "Row", "as_lines", "as_sentence", "choose", "collect_facts", "decide"]
