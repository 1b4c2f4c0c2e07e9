"""Forms with files, as browsers send them (multipart/form-data)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from permille.core.record import Record

CONTENT_TYPE = "multipart/form-data"
HEAD_BYTES_MAX = 4_096
_BOUNDARY = re.compile(
    rf"{CONTENT_TYPE} *; *boundary=(\"?)([0-9A-Za-z'()+_,./:=? -]{{1,70}})\1", re.IGNORECASE
)
_FIELD = re.compile(
    rb'content-disposition: *form-data *; *name="([^"]*)"(?: *; *filename="([^"]*)")?', re.IGNORECASE
)
"""How browsers write it: a quotation mark in a name is %22. Whatever it reads, it reads in one pass."""


class UploadedFile(Record):
    """A file of a form: what it is called where it comes from, and what is in it."""

    name: str
    content: bytes


def read_multipart(
    sent: bytes, content_type: str, fields_max: int
) -> tuple[list[tuple[str, str]], Mapping[str, UploadedFile]]:
    """The fields and the files of a form; a file that was not chosen is none. Raises ValueError for what is no such form."""
    boundary = _BOUNDARY.fullmatch(content_type)
    if not boundary:
        raise ValueError("no boundary")
    before, *pieces = (b"\r\n" + sent).split(b"\r\n--" + boundary[2].encode(), fields_max + 1)
    if before or not pieces or not pieces.pop().startswith(b"--"):
        raise ValueError("no whole form")
    pairs: list[tuple[str, str]] = []
    files: dict[str, UploadedFile] = {}
    for piece in pieces:
        head, found, content = piece.partition(b"\r\n\r\n")
        if not found or len(head) > HEAD_BYTES_MAX:
            raise ValueError("no field")
        field = next(filter(None, map(_FIELD.fullmatch, head.split(b"\r\n"))), None)
        if field is None or not field[1]:
            raise ValueError("a field has no name")
        name, file_name = field[1].decode(), field[2]
        if file_name is None:
            pairs.append((name, content.decode()))
        elif file_name or content:
            files[name] = UploadedFile(file_name.decode(), content)
    return pairs, files
