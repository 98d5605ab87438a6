"""Read character vectors out of an R package's lazy-load database (.rdx index, .rdb data).

Just enough of R's serialisation for text: the XDR format of `serialize()` [1]_ with strings,
integers, logicals, lists, pairlists and attributes.

References
----------
.. [1] R Internals, section 1.8 "Serialization Formats".
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

from circuits.errors import FormatError

_SYMSXP, _LISTSXP, _CHARSXP, _LGLSXP, _INTSXP, _REALSXP = 1, 2, 9, 10, 13, 14
_STRSXP, _VECSXP, _NILVALUE, _REFSXP = 16, 19, 254, 255
_HAS_ATTRIBUTES, _HAS_TAG = 0x200, 0x400


def read_lazy_load(stem: Path) -> dict[str, list[str]]:
    """Read every character vector of `stem`.rdx / `stem`.rdb.

    Parameters
    ----------
    stem : path of the database without its suffix.

    Returns
    -------
    dict
        Variable name -> its strings; variables that are not character vectors are left out.

    Raises
    ------
    FormatError
        The database is damaged or uses a part of the format that is not read here.
    """
    try:
        index = _Reader(gzip.decompress(stem.with_suffix(".rdx").read_bytes())).read_document()
        data = stem.with_suffix(".rdb").read_bytes()
        found = {}
        for name, (position, length) in index["variables"].items():
            # 4 bytes of big-endian uncompressed length, then a zlib stream.
            chunk = zlib.decompress(data[position + 4 : position + length])
            value = _Reader(chunk).read_document()
            if isinstance(value, list) and all(isinstance(item, str) for item in value):
                found[name] = value
    except (OSError, EOFError, zlib.error, struct.error, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{stem}.rdx/.rdb is no readable R database: {error}") from error
    return found


class _Reader:
    def __init__(self, data: bytes):
        self._data, self._at = data, 0
        self._references: list[Any] = []

    def read_document(self) -> Any:
        """Read the header (format, version, two R versions, encoding) and the one value."""
        if self._take(2) != b"X\n":
            raise ValueError("not R's XDR serialisation")
        version, _, _ = self._integers(3)
        if version == 3:
            self._take(self._integer())
        return self._read()

    def _take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if count < 0 or len(piece) < count:
            raise ValueError("truncated")
        self._at += count
        return piece

    def _integers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}i", self._take(4 * count))

    def _integer(self) -> int:
        return self._integers(1)[0]

    def _read(self) -> Any:
        flags = self._integer()
        kind = flags & 0xFF
        value: Any
        if kind == _NILVALUE:
            return None
        if kind == _SYMSXP:
            self._references.append(self._read())
            return self._references[-1]
        if kind == _REFSXP:
            return self._references[(flags >> 8) - 1 if flags >> 8 else self._integer() - 1]
        if kind == _LISTSXP:
            return self._read_pairs(flags)
        if kind == _CHARSXP:
            length = self._integer()
            return "" if length < 0 else self._take(length).decode("utf-8")
        length = self._integer()
        if kind in (_LGLSXP, _INTSXP):
            value = self._integers(length)
        elif kind == _REALSXP:
            value = struct.unpack(f">{length}d", self._take(8 * length))
        elif kind in (_STRSXP, _VECSXP):
            value = [self._read() for _ in range(length)]
        else:
            raise ValueError(f"type {kind} of R's serialisation is not supported")
        attributes = self._read() if flags & _HAS_ATTRIBUTES else {}
        names = attributes.get("names")
        return dict(zip(names, value, strict=True)) if names else value

    def _read_pairs(self, flags: int) -> dict[str, Any]:
        """Read a pairlist: attributes, tag and value, then the rest of the list."""
        if flags & _HAS_ATTRIBUTES:
            self._read()
        tag = self._read() if flags & _HAS_TAG else ""
        pairs = {tag: self._read()}
        pairs.update(self._read() or {})
        return pairs
