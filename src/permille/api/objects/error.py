"""What a refused request answers."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, UnsetType

from permille.api.objects.base import Answer, says


class Error(Answer, kw_only=True):
    """Why a request was refused. Nothing was changed."""

    status: Annotated[int, says("The HTTP status.", example=422)]
    error: Annotated[str, says("The status in words; on 400 also what could not be read.")]
    code: Annotated[str | UnsetType, says("Stable code for programs.", example="validation_errors")] = UNSET
    error_details: Annotated[
        dict[str, Any] | list[Any] | str | UnsetType,
        says("On 422: field -> list of codes, for every faulty field. For a batch: index -> its errors."),
    ] = UNSET
    allowed: Annotated[
        dict[str, list[str]] | UnsetType,
        says("Field -> values that are accepted, where they are a closed set."),
    ] = UNSET
    message: Annotated[str, says("What is wrong, in a sentence for people.")]
    request_id: Annotated[
        str | UnsetType, says("Names the request in the server's log; also in the header X-Request-Id.")
    ] = UNSET
