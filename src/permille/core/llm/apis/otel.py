"""The counts of OpenTelemetry's conventions, and of those beside it, in OpenAI's relations: details are in their totals."""

from __future__ import annotations

from permille.core.llm.apis.openai_responses import INPUT, OUTPUT
from permille.core.llm.table import Api, Rest, Total, by_name_alone
from permille.core.record import replace

OTEL = Api(
    name="otel",
    looks_like=by_name_alone,
    tables=(
        (replace(INPUT, path=("input_tokens", "input")), replace(OUTPUT, path=("output_tokens", "output"))),
    ),
    total=Total(rest=Rest.OUTPUT),
    ignored=("total",),
    missing="the span has no usage: ask the provider for it with stream_options.include_usage",
)
