"""What is wrong with an event that was taken, as its webhook says it."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, says
from permille.api.objects.event import EventDetails


class EventError(Answer):
    """An event that was taken, with what is wrong with it."""

    status: Annotated[int, says("Always 422.")]
    error: Annotated[str, says("Always Unprocessable entity.")]
    message: Annotated[
        str, says("JSON: field of the event to codes.", example='{"target_wallet_code":["..."]}')
    ]
    event: Annotated[EventDetails, says("The event.")]
