"""Which requests to a provider have usage in their answers, by address."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoint:
    """`api` is the shape of the answer, `provider` who serves it."""

    api: str
    provider: str


_PATHS = (
    (re.compile(r"/chat/completions$"), "openai_chat"),
    (re.compile(r"/responses(/compact)?$"), "openai_responses"),
    (re.compile(r"/embeddings$"), "openai_embeddings"),
    (re.compile(r"/images/(generations|edits|variations)$"), "openai_images"),
    (re.compile(r"/audio/(transcriptions|translations)$"), "openai_audio"),
    (re.compile(r"/v1/messages$"), "anthropic"),
    (re.compile(r":(generateContent|streamGenerateContent|embedContent)$"), "google"),
)

_HOSTS = (
    (re.compile(r"(^|\.)openai\.azure\.com$|\.cognitiveservices\.azure\.com$"), "azure"),
    (re.compile(r"(^|\.)openai\.com$"), "openai"),
    (re.compile(r"(^|\.)anthropic\.com$"), "anthropic"),
    (re.compile(r"(^|\.)googleapis\.com$"), "google"),
    (re.compile(r"(^|\.)deepseek\.com$"), "deepseek"),
    (re.compile(r"(^|\.)groq\.com$"), "groq"),
    (re.compile(r"(^|\.)x\.ai$"), "xai"),
    (re.compile(r"(^|\.)mistral\.ai$"), "mistral"),
    (re.compile(r"(^|\.)perplexity\.ai$"), "perplexity"),
    (re.compile(r"(^|\.)openrouter\.ai$"), "openrouter"),
)

_OF_THE_SHAPE = {"anthropic": "anthropic", "google": "google"}
_OWN_SHAPE = ("deepseek", "groq", "xai", "mistral", "perplexity", "openrouter")
SEND_USAGE_UNASKED = ("mistral", "perplexity")


def endpoint_of(host: str, path: str, provider: str | None = None) -> Endpoint | None:
    """The endpoint at this address; None where answers have no usage. `provider` is who serves an unknown host."""
    api = next((name for pattern, name in _PATHS if pattern.search(path)), None)
    if api is None:
        return None
    known = next((name for pattern, name in _HOSTS if pattern.search(host)), None)
    served_by = provider or known or _OF_THE_SHAPE.get(api, "openai")
    own_shape = api == "openai_chat" and served_by in _OWN_SHAPE
    return Endpoint(served_by if own_shape else api, served_by)


def model_in(path: str) -> str | None:
    """The model in an address of Google's, `.../models/MODEL:generateContent`."""
    found = re.search(r"/models/([^/:]+):", path)
    return found and found[1]
