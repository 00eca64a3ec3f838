"""Where results may be written, and how: checked before any work, written whole or not at all, never lost.

Nothing large is imported here: a command checks its outputs before it loads torch or pandas.
"""

from deni.outputs.failures import describe_failure, system_errors
from deni.outputs.files import (
    CONLL,
    SUFFIXES,
    check_file,
    check_output,
    check_store,
    format_of,
)
from deni.outputs.folders import INFO, LIST, check_figures, check_folder, foreign_files, sizes, write_list
from deni.outputs.names import check_name
from deni.outputs.trying import check_room
from deni.outputs.unfinished import unfinished_name
from deni.outputs.writing import SavedElsewhereError, as_utf8, place_file, write_bytes, write_folder, write_into

__all__ = [
    "CONLL",
    "INFO",
    "LIST",
    "SUFFIXES",
    "SavedElsewhereError",
    "as_utf8",
    "check_figures",
    "check_file",
    "check_folder",
    "check_name",
    "check_output",
    "check_room",
    "check_store",
    "describe_failure",
    "foreign_files",
    "format_of",
    "place_file",
    "sizes",
    "system_errors",
    "unfinished_name",
    "write_bytes",
    "write_folder",
    "write_into",
    "write_list",
]
