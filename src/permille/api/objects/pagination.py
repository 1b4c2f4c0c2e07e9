"""Which page of a list an answer holds."""

from __future__ import annotations

from typing import Annotated

from permille.api.objects.base import Answer, says


class Pagination(Answer):
    """Position of a page within its list."""

    current_page: Annotated[int, says("Number of this page, from 1; 0 when the list is empty.")]
    next_page: Annotated[int | None, says("Number of the next page; null on the last one.")]
    prev_page: Annotated[int | None, says("Number of the previous page; null on the first one.")]
    total_pages: Annotated[int, says("Number of pages.")]
    total_count: Annotated[int, says("Number of objects on all pages.")]
