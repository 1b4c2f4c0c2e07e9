"""OpenRouter: OpenAI's shape for every provider behind it, with what it charges in the answer."""

from __future__ import annotations

from decimal import Decimal

from permille.core.llm.apis.openai_chat import INFORMATIVE, OPENAI_CHAT
from permille.core.llm.parts import CallType, Metric
from permille.core.llm.table import Measure, Obj, at, quantity
from permille.core.record import replace


def _cost(_body: Obj, usage: Obj) -> Decimal | None:
    """With a key of one's own at the provider, its bill is in the details."""
    upstream = quantity(
        at(usage, "cost_details.upstream_inference_cost"), "cost_details.upstream_inference_cost"
    )
    said = quantity(usage.get("cost"), "cost")
    if usage.get("is_byok") is True and upstream is not None:
        return upstream + (said or Decimal(0))
    return said


OPENROUTER_CHAT = replace(
    OPENAI_CHAT,
    name="openrouter",
    measures=(Measure("server_tool_use_details.web_search_requests", Metric.CALLS, CallType.WEB_SEARCH),),
    ignored=(*INFORMATIVE, "cost", "cost_details", "server_tool_use", "is_byok"),
    cost=_cost,
)
