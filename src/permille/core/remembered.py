"""Values that are kept for texts that senders choose: how many, and how long their texts may be."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar, cast

Given = ParamSpec("Given")
Made = TypeVar("Made")

TEXT_MAX = 256
"""What has a longer text is made each time: a cache of such texts would hold gigabytes that one sender has filled."""


def remembered(count: int) -> Callable[[Callable[Given, Made]], Callable[Given, Made]]:
    """The same function, which keeps what it has made of the last so many arguments without long texts."""

    def keeping(make: Callable[Given, Made]) -> Callable[Given, Made]:
        kept = cast("Callable[Given, Made]", lru_cache(maxsize=count)(make))

        @wraps(make)
        def made(*args: Given.args, **kwargs: Given.kwargs) -> Made:
            for each in args:
                if type(each) is str and len(each) > TEXT_MAX:
                    return make(*args, **kwargs)
            return kept(*args, **kwargs)

        return made

    return keeping
