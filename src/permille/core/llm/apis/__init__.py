"""The APIs whose answers can be read, one file each. A new one is a file here and a word in APIS or a provider's line."""

from __future__ import annotations

from permille.core.llm.apis.ai_sdk import AI_SDK
from permille.core.llm.apis.anthropic import ANTHROPIC
from permille.core.llm.apis.bedrock import BEDROCK
from permille.core.llm.apis.cohere import COHERE
from permille.core.llm.apis.deepseek import DEEPSEEK_CHAT
from permille.core.llm.apis.embeddings import EMBEDDINGS
from permille.core.llm.apis.google import GOOGLE, GOOGLE_INTERACTIONS, GOOGLE_SDK
from permille.core.llm.apis.groq import GROQ_CHAT
from permille.core.llm.apis.litellm import LITELLM, LITELLM_EVENT
from permille.core.llm.apis.mistral import MISTRAL_CHAT, MISTRAL_OCR, MISTRAL_TRANSCRIPTION
from permille.core.llm.apis.ollama import OLLAMA
from permille.core.llm.apis.openai_audio import OPENAI_AUDIO
from permille.core.llm.apis.openai_chat import OPENAI_CHAT
from permille.core.llm.apis.openai_images import OPENAI_IMAGES, OPENAI_VIDEO
from permille.core.llm.apis.openai_realtime import OPENAI_LIVE, OPENAI_REALTIME
from permille.core.llm.apis.openai_responses import OPENAI_RESPONSES
from permille.core.llm.apis.openrouter import OPENROUTER_CHAT
from permille.core.llm.apis.otel import OTEL
from permille.core.llm.apis.perplexity import PERPLEXITY_CHAT
from permille.core.llm.apis.xai import XAI_CHAT, XAI_RESPONSES
from permille.core.llm.lago_agent import LAGO_AGENT
from permille.core.llm.table import Api

_OPENAI = (
    OPENAI_REALTIME,
    OPENAI_LIVE,
    OPENAI_AUDIO,
    OPENAI_IMAGES,
    OPENAI_VIDEO,
    EMBEDDINGS,
    OPENAI_RESPONSES,
    OPENAI_CHAT,
)
_FIRST: dict[str, tuple[Api, ...]] = {
    "anthropic": (ANTHROPIC,),
    "aws": (BEDROCK, ANTHROPIC, COHERE),
    "azure": (*_OPENAI[:-2], OPENAI_CHAT, OPENAI_RESPONSES),
    "cohere": (COHERE,),
    "deepseek": (DEEPSEEK_CHAT, ANTHROPIC),
    "google": (GOOGLE, GOOGLE_SDK, GOOGLE_INTERACTIONS, ANTHROPIC),
    "groq": (OPENAI_AUDIO, EMBEDDINGS, OPENAI_RESPONSES, GROQ_CHAT),
    "mistral": (MISTRAL_OCR, MISTRAL_TRANSCRIPTION, EMBEDDINGS, MISTRAL_CHAT),
    "ollama": (OLLAMA,),
    "openai": _OPENAI,
    "openrouter": (EMBEDDINGS, OPENAI_RESPONSES, OPENROUTER_CHAT),
    "perplexity": (PERPLEXITY_CHAT,),
    "x-ai": (XAI_RESPONSES, XAI_CHAT),
}
"""The APIs of a provider, in the order in which an answer is compared with their marks."""

APIS = {
    api.name: api
    for api in (
        *_OPENAI,
        *(api for apis in _FIRST.values() for api in apis),
        AI_SDK,
        OTEL,
        LITELLM,
        LITELLM_EVENT,
        LAGO_AGENT,
    )
}
"""Every API by its name."""


def named(name: str, provider: str) -> Api | None:
    """The API of this name; of a provider that adds to it, its own."""
    if name == OPENAI_RESPONSES.name and provider == "x-ai":
        return XAI_RESPONSES
    return APIS.get(name)


def candidates(provider: str) -> tuple[Api, ...]:
    """The APIs that an answer of this provider may be of. The SDK's own object comes first: it is of any provider."""
    return (AI_SDK, *_FIRST.get(provider, (*_OPENAI, OLLAMA)))
