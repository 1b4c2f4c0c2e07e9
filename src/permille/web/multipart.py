"""Forms with files, as browsers send them (multipart/form-data)."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message
from email.parser import BytesParser

from permille.core.record import Record

CONTENT_TYPE = "multipart/form-data"
HEAD_BYTES_MAX = 4_096


class UploadedFile(Record):
    """A file of a form: what it is called where it comes from, and what is in it."""

    name: str
    content: bytes


def read_multipart(
    sent: bytes, content_type: str, fields_max: int
) -> tuple[list[tuple[str, str]], Mapping[str, UploadedFile]]:
    """The fields and the files of a form; a file that was not chosen is none. Raises ValueError for what is no such form."""
    boundary = _header(f"Content-Type: {content_type}".encode()).get_boundary()
    if not boundary:
        raise ValueError("no boundary")
    before, *pieces = (b"\r\n" + sent).split(b"\r\n--" + boundary.encode(), fields_max + 1)
    if before or not pieces or not pieces.pop().startswith(b"--"):
        raise ValueError("no whole form")
    pairs: list[tuple[str, str]] = []
    files: dict[str, UploadedFile] = {}
    for piece in pieces:
        head, found, content = piece.partition(b"\r\n\r\n")
        if not found or len(head) > HEAD_BYTES_MAX:
            raise ValueError("no field")
        header = _header(head.removeprefix(b"\r\n"))
        name, file_name = header.get_param("name", header="content-disposition"), header.get_filename()
        if not name or not isinstance(name, str):
            raise ValueError("a field has no name")
        if file_name is None:
            pairs.append((name, content.decode()))
        elif file_name or content:
            files[name] = UploadedFile(file_name, content)
    return pairs, files


def _header(lines: bytes) -> Message:
    return BytesParser().parsebytes(lines, headersonly=True)
