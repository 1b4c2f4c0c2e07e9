"""xAI's chat: reasoning is beside the completion, and the charge is in the answer."""

from __future__ import annotations

from decimal import Decimal

from permille.core.llm.apis.openai_chat import COMPLETION, INFORMATIVE, OPENAI_CHAT, PROMPT, REASONING
from permille.core.llm.apis.openai_responses import OPENAI_RESPONSES
from permille.core.llm.table import Obj, Total, quantity
from permille.core.record import replace

_TICKS = Decimal("1e-10")


def _cost(_body: Obj, usage: Obj) -> Decimal | None:
    ticks = quantity(usage.get("cost_in_usd_ticks"), "cost_in_usd_ticks")
    return None if ticks is None else ticks * _TICKS


_OWN = (
    "cost_in_usd_ticks",
    "num_sources_used",
    "num_server_side_tools_used",
    "server_side_tool_usage_details",
)

XAI_CHAT = replace(
    OPENAI_CHAT,
    name="xai",
    tables=((PROMPT, replace(COMPLETION, inside=()), REASONING), (PROMPT, COMPLETION)),
    total=Total(),
    ignored=(*INFORMATIVE, *_OWN),
    cost=_cost,
)
"""The total says whether reasoning is beside, as it is today, or in the completion."""

XAI_RESPONSES = replace(OPENAI_RESPONSES, name="xai_responses", ignored=_OWN, cost=_cost)
