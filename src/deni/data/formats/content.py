"""The content of a file: its bytes, uncompressed, and as text."""

from __future__ import annotations

import gzip
import shlex
import sys
import zlib
from pathlib import Path

from deni.errors import InputError
from deni.inputs import missing

STDIN = "standard input"


def bytes_in(path: str | Path) -> bytes:
    """Read the file, or standard input for `-`."""
    if str(path) == "-":
        return sys.stdin.buffer.read()
    file = Path(path)
    try:
        return file.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{file}: is a folder; name a file in it") from None
    except FileNotFoundError:
        raise missing(file) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from None


def decompressed(data: bytes, source: str) -> bytes:
    """Undo gzip."""
    try:
        return gzip.decompress(data)
    except gzip.BadGzipFile:
        raise InputError(f"{source}: is not gzip although its name ends in .gz; rename it or compress it") from None
    except (EOFError, zlib.error):
        raise InputError(f"{source}: the gzip data is truncated or damaged; copy or download it again") from None


def decoded(data: bytes, source: str) -> str:
    """Decode UTF-8, with or without a byte order mark."""
    for zeros, encoding in ((data[1:8:2], "UTF-16LE"), (data[:8:2], "UTF-16BE")):  # without a byte order mark
        if zeros and not any(zeros):
            raise _other_encoding(source, 1, "every second byte is 0", encoding)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from behind the byte order mark.
        at = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = 1 + data.count(b"\n", 0, at)
        encoding = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise _other_encoding(source, line, f"byte 0x{data[at]:02x} at offset {at}", encoding) from None


def _other_encoding(source: str, line: int, why: str, encoding: str) -> InputError:
    file = "" if source == STDIN or source.endswith(".gz") else f" {shlex.quote(source)}"
    return InputError(
        f"{source}, line {line}: not UTF-8 ({why}); "
        f"convert the uncompressed text first: iconv -f {encoding} -t UTF-8{file}"
    )
