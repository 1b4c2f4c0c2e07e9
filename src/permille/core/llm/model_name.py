"""Names of providers and models: as they are sent, and as they are billed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from permille.core.record import Record, replace
from permille.core.remembered import remembered

PROVIDERS = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "az.ai.openai": "azure",
    "az.ai.inference": "azure",
    "azure_ai": "azure",
    "aws.bedrock": "aws",
    "bedrock": "aws",
    "amazon-bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "gcp.gen_ai": "google",
    "vertex_ai": "google",
    "vertexai": "google",
    "gemini": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
"""What clients and traces call a provider, and what it is called here."""

_SHAPES = (".chat", ".responses", ".completion", ".embedding", ".image", ".messages", ".generative-ai")
_PREFIXES = {"openai", "anthropic", "google", "gemini", "azure", "bedrock", "vertex_ai", "mistral", "cohere"}
_PREFIXES |= {"deepseek", "groq", "xai", "perplexity", "ollama", "openrouter", "fireworks"}

_GEOGRAPHY = re.compile(r"(us-gov|us|eu|apac|jp|au|ca|global)\.(?=[a-z0-9-]+\.)")
_SNAPSHOT = re.compile(r"[-@](20\d\d)-?([01]\d)-?([0-3]\d)\Z")
_MONTH = re.compile(r"-([01]\d-20\d\d)\Z")
_MODELS = re.compile(
    r"(gpt|chatgpt|o\d|text-|dall-e|whisper|tts|sora|codex|computer-use|claude|llama|meta-|mistral|mixtral|ministral"
    r"|codestral|deepseek|phi|grok|kimi|qwen|cohere|command|embed|rerank|jais|model-router)",
    re.IGNORECASE,
)
"""How names of models begin that an Azure deployment may have; other names of deployments say nothing."""

_MODELS_OF = (
    (("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "dall-e", "whisper"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-", "models/gemini"), "google"),
    (("grok-",), "x-ai"),
    (("mistral-", "ministral-", "magistral-", "codestral-", "pixtral-"), "mistral"),
    (("deepseek-",), "deepseek"),
    (("command-",), "cohere"),
    (("sonar",), "perplexity"),
)

_FAMILIES = {
    "mistral": {
        "codestral",
        "magistral-medium",
        "magistral-small",
        "ministral-3b",
        "mistral-large",
        "pixtral-large",
    },
    "cohere": {"command", "command-a", "command-light", "command-r", "command-r-plus", "command-r7b"},
}
"""Models whose dated names and `-latest` have one price, under this name."""

_SHORT_DATES = {
    "gpt-4": {"0314", "0613"},
    "gpt-4-32k": {"0314", "0613"},
    "gpt-3.5-turbo": {"0125"},
    "gpt-3.5-turbo-16k": {"0613"},
}
"""OpenAI's models that answer with a month and a day behind their names, at the price of the name. Older dates cost more."""

_NAMES_REMEMBERED = 4_096

Aliases = Mapping[str, str]
"""`provider/name as sent` -> `provider/model`."""


class ModelName(Record, kw_only=True):
    """The name of a model, taken apart. `model` is None where it can't be known without an alias."""

    provider: str
    model: str | None
    region: str | None = None
    snapshot: str | None = None
    variant: str | None = None
    alias: str | None = None
    fine_tune: str | None = None


@remembered(_NAMES_REMEMBERED)
def provider_name(sent: str) -> str:
    """The provider under the name that it has here, whatever a client or a trace calls it."""
    name = sent.strip().lower()
    if name in PROVIDERS:
        return PROVIDERS[name]
    for shape in _SHAPES:
        name = name.removesuffix(shape)
    return PROVIDERS.get(name, name)


def provider_of_model(sent: str) -> str | None:
    """The provider that is known for a model, or that is written in front of it, where nobody says who served it."""
    before, slash, _ = sent.partition("/")
    if slash and before.lower() in _PREFIXES:
        return provider_name(before)
    if _GEOGRAPHY.match(sent) or sent.startswith(("anthropic.", "amazon.")):
        return "aws"
    return next((provider for starts, provider in _MODELS_OF if sent.startswith(starts)), None)


def name_model(provider: str | None, sent: str, *, aliases: Aliases | None = None) -> ModelName:
    """What is billed by. `aliases` are the organization's own, `provider/name as sent` to `provider/model`, and go first."""
    name = sent.strip()
    if provider is None:
        before, slash, after = name.partition("/")
        provider, name = (before, after) if slash and before.lower() in _PREFIXES else ("unknown", name)
    provider = provider_name(provider)
    own = aliases.get(alias_name(provider, name)) if aliases else None
    return _named(provider, name) if own is None else _meant(provider, own)


def alias_name(provider: str, sent: str) -> str:
    """The name that an alias has: with the provider, which some gateways write in front of it too."""
    return f"{provider}/{sent.strip().removeprefix(f'{provider}/')}"


def _meant(provider: str, own: str) -> ModelName:
    """The model of an alias. It is known, however little its name says."""
    before, slash, after = own.partition("/")
    name = after if slash else own
    named = _named(before if slash else provider, name)
    return replace(named, model=named.model or name)


@remembered(_NAMES_REMEMBERED)
def _named(provider: str, name: str) -> ModelName:
    if provider == "openrouter":
        base, _, variant = name.partition(":")
        return ModelName(provider=provider, model=base, variant=variant or None)
    if name.startswith("arn:"):
        kind, _, name = name.rpartition(":")[2].rpartition("/")
        if kind not in ("foundation-model", "inference-profile"):
            return ModelName(provider=provider, model=None)
    if name.startswith("accounts/"):
        name = name.rpartition("/")[2]
    name = name.removeprefix("models/")
    for prefix in (f"{provider}/", "publishers/google/models/", "publishers/anthropic/models/"):
        if provider != "groq":
            name = name.removeprefix(prefix)
    if provider == "aws":
        found = _GEOGRAPHY.match(name)
        return ModelName(
            provider=provider,
            model=name[found.end() :] if found else name,
            region=found[1] if found else None,
        )
    if name.startswith("ft:"):
        return _fine_tuned(provider, name)
    if provider == "azure" and not _MODELS.match(name):
        return ModelName(provider=provider, model=None)
    return _dated(provider, name)


def _fine_tuned(provider: str, name: str) -> ModelName:
    base, _, own = name.removeprefix("ft:").partition(":")
    dated = _dated(provider, base)
    return ModelName(
        provider=provider, model=f"ft:{dated.model}", snapshot=dated.snapshot, fine_tune=own or None
    )


def _dated(provider: str, name: str) -> ModelName:
    if found := _SNAPSHOT.search(name):
        snapshot = "-".join(found.groups())
        return ModelName(provider=provider, model=name[: found.start()], snapshot=snapshot)
    base, _, short = name.rpartition("-")
    if provider in ("openai", "azure") and short in _SHORT_DATES.get(base, ()):
        return ModelName(provider=provider, model=base, snapshot=short)
    families = _FAMILIES.get(provider, set())
    if name.endswith("-latest") and name.removesuffix("-latest") in families:
        return ModelName(provider=provider, model=name.removesuffix("-latest"), alias="latest")
    if (found := _MONTH.search(name)) and name[: found.start()] in families:
        return ModelName(provider=provider, model=name[: found.start()], snapshot=found[1])
    return ModelName(provider=provider, model=name)
