"""Perplexity: reasoning and citations are beside the completion, and the total has neither."""

from __future__ import annotations

from decimal import Decimal

from permille.core.llm.apis.openai_chat import COMPLETION, INFORMATIVE, OPENAI_CHAT, PROMPT
from permille.core.llm.parts import CallType, Metric, TokenType
from permille.core.llm.table import Count, Measure, Obj, Total, at, quantity
from permille.core.record import replace


def _cost(_body: Obj, usage: Obj) -> Decimal | None:
    return quantity(at(usage, "cost.total_cost"), "cost.total_cost")


PERPLEXITY_CHAT = replace(
    OPENAI_CHAT,
    name="perplexity",
    tables=(
        (
            PROMPT,
            replace(COMPLETION, inside=()),
            Count("citation_tokens", TokenType.CITATION, in_total=False),
            Count("reasoning_tokens", TokenType.REASONING, in_total=False),
        ),
    ),
    total=Total(),
    measures=(Measure("num_search_queries", Metric.CALLS, CallType.WEB_SEARCH),),
    ignored=(*INFORMATIVE, "cost"),
    cost=_cost,
)
