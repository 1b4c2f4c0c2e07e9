"""The samples of providers' answers, with what is to be made of each."""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from permille.core.llm.read import SentUsage

FOLDER = Path(__file__).parent / "answers"


def load(name: str) -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / name).read_text(), parse_float=Decimal)["cases"])


def usages() -> list[dict[str, Any]]:
    return [case for path in sorted(FOLDER.glob("usage-*.json")) for case in load(path.name)]


def sent(case: Mapping[str, Any], **more: Any) -> SentUsage:
    """A case as it would be sent: what isn't in the answer is beside it."""
    given = case["given"]
    if "stream" in given:
        return SentUsage(
            provider=case["provider"],
            stream=given["stream"],
            model=given.get("model"),
            response_id=given.get("session_id"),
            **more,
        )
    return SentUsage(provider=case["provider"], response=given, **more)
