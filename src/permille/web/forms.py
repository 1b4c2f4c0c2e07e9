"""What is wrong with a form, in words beside the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from permille.api.http import decode_json
from permille.core.errors import BadRequest, Invalid, Refusal
from permille.http.bodies import BodyShare, read_body
from permille.web.multipart import CONTENT_TYPE, UploadedFile, read_multipart
from permille.web.visit import Form, Problems

ONCE = "form_token"
"""The field that says which form of which page was sent."""
FORM_BYTES_MAX = 1_000_000
FILE_FORM_BYTES_MAX = 10_000_000
"""The most that a form with a file may have."""
FIELDS_MAX = 5_000

PLACES = {
    "plan_not_found": "plan_code",
    "coupon_not_found": "coupon_code",
    "plan_overlapping": "coupon_code",
    "billable_metrics_not_found": "billable_metric_code",
}


def problems_of(refusal: Refusal) -> Problems:
    """Field -> codes; what belongs to no field is under `base`."""
    if isinstance(refusal, Invalid):
        return {name: _codes(found) for name, found in refusal.errors.items()}
    if isinstance(refusal, BadRequest):
        return {"base": [refusal.reason]}
    code = refusal.code or str(refusal.status)
    return {PLACES.get(code, "base"): [code]}


def _codes(found: Any) -> list[str]:
    if isinstance(found, Mapping):
        return [code for each in found.values() for code in _codes(each)]
    return (
        [str(code) for code in found]
        if isinstance(found, Sequence) and not isinstance(found, str)
        else [str(found)]
    )


def read_json(text: str) -> Any:
    """JSON as the API reads it; a text that is none stays itself, for the API to say what is wrong with it."""
    try:
        return decode_json(text.encode())
    except BadRequest:
        return text


async def read_form(request: Request, share: BodyShare, *, takes_files: bool = False) -> Form:
    """The fields of an urlencoded form, or of one with files where there are such. Raises Refusal for what is too large,
    BadRequest for what is none.
    """
    content_type = request.headers.get("content-type", "")
    has_files = takes_files and content_type.partition(";")[0].strip().lower() == CONTENT_TYPE
    limit = FILE_FORM_BYTES_MAX if has_files else FORM_BYTES_MAX
    sent = await read_body(request.headers.raw, request.receive, limit, share)
    files: Mapping[str, UploadedFile] = {}
    try:
        if has_files:
            pairs, files = read_multipart(sent, content_type, FIELDS_MAX)
        else:
            pairs = parse_qsl(
                sent.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
            )
    except ValueError as error:
        raise BadRequest("the form can't be read") from error
    if any("\0" in text for pair in pairs for text in pair) or any(
        "\0" in each.name for each in files.values()
    ):
        raise BadRequest("the form has a NUL character")
    fields = tuple(pair for pair in pairs if pair[0] != ONCE)
    return Form(pairs=fields, files=files, token=dict(pairs).get(ONCE, ""))
