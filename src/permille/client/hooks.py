"""Hooks of an httpx client: they see each request to a model provider, and read the usage in its answer.

The providers' packages all send with httpx (or its fork httpx2). At this level streams, raw responses, copies of a
client and helpers that parse are all the same.
"""

import importlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from permille.client.billing import BilledTo, current
from permille.client.endpoints import SEND_USAGE_UNASKED, Endpoint, endpoint_of, model_in
from permille.client.reading import StreamedAnswer, WholeAnswer

_CALL = "permille"
_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid")
_LIBRARIES = ("httpx", "httpx2")
_FORM_MODEL = re.compile(rb'name="model"\r\n\r\n([^\r\n]{1,200})\r\n')


class Reader(Protocol):
    def take(self, data: bytes) -> bytes: ...
    def rest(self) -> bytes: ...
    def usage(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class _Call:
    """What is known of a call when its request is sent; `hide` when only the meter asked for the usage."""

    endpoint: Endpoint
    billed_to: BilledTo
    model: str | None
    hide: bool


@dataclass(frozen=True)
class Hooks:
    """`check` is asked before a call that costs money, `keep` gets its usage; both raise UsageNotKeptError."""

    check: Callable[[], None]
    keep: Callable[[dict[str, Any], BilledTo], None]
    billed_to: BilledTo
    provider: str | None
    include_usage: bool

    def attach(self, http_client: Any) -> None:
        """Watch a client of httpx or httpx2. One that is watched already stays as it is."""
        hooks = http_client.event_hooks
        if any(isinstance(getattr(hook, "__self__", None), Hooks) for hook in hooks["request"]):
            return
        sync = isinstance(http_client, _library(http_client).Client)
        http_client.event_hooks = {
            "request": [*hooks["request"], self._before if sync else self._before_async],
            "response": [*hooks["response"], self._after if sync else self._after_async],
        }

    def _before(self, request: Any) -> None:
        if endpoint := self._endpoint(request):
            self._note(request, endpoint, request.read())

    async def _before_async(self, request: Any) -> None:
        if endpoint := self._endpoint(request):
            self._note(request, endpoint, await request.aread())

    def _after(self, response: Any) -> None:
        self._tap(response, _SyncTee, "SyncByteStream")

    async def _after_async(self, response: Any) -> None:
        self._tap(response, _AsyncTee, "AsyncByteStream")

    def _tap(self, response: Any, tee: "type[_Tee]", stream: str) -> None:
        """Read the usage in a response on its way; `stream` is what its library takes for a stream of bytes."""
        if call := _metered(response):
            metered = type("MeteredStream", (tee, getattr(_library(response), stream)), {})
            response.stream = metered(response.stream, _reader(response, call), self._keeper(response, call))

    def _endpoint(self, request: Any) -> Endpoint | None:
        if request.method != "POST":
            return None
        endpoint = endpoint_of(request.url.host, request.url.path, self.provider)
        if endpoint is not None:
            self.check()
        return endpoint

    def _note(self, request: Any, endpoint: Endpoint, content: bytes) -> None:
        request.headers["accept-encoding"] = "identity"
        body = _json_object(request, content)
        hide = self._must_ask_for_usage(endpoint, body)
        if hide:
            options = body.get("stream_options") or {}
            content = json.dumps(body | {"stream_options": {**options, "include_usage": True}}).encode()
            request.stream = _library(request).ByteStream(content)
            request.headers["content-length"] = str(len(content))
        model = body.get("model") or model_in(request.url.path) or _model_in_form(content)
        request.extensions[_CALL] = _Call(endpoint, current(self.billed_to), model, hide)

    def _must_ask_for_usage(self, endpoint: Endpoint, body: dict[str, Any]) -> bool:
        streamed_chat = body.get("stream") is True and _takes_stream_options(endpoint)
        asked = (body.get("stream_options") or {}).get("include_usage")
        return self.include_usage and streamed_chat and not asked

    def _keeper(self, response: Any, call: _Call) -> Callable[[dict[str, Any]], None]:
        def keep(answer: dict[str, Any]) -> None:
            usage = {"provider": call.endpoint.provider, "api": call.endpoint.api, **answer}
            parts = answer.get("stream") or [answer.get("response") or {}]
            if call.model and not any(_named(part, "model", "modelVersion") for part in parts):
                usage["model"] = call.model
            if not any(_named(part, "id", "responseId") for part in parts):
                headers = (response.headers.get(name) for name in _ID_HEADERS)
                usage["id"] = next(filter(None, headers), None) or str(uuid.uuid4())
            self.keep(usage, call.billed_to)

        return keep


def http_clients(client: Any) -> list[Any]:
    """The httpx clients that a provider's client sends with. Raises TypeError for what has none."""
    if hasattr(client, "event_hooks"):
        return [client]
    inner = getattr(client, "_client", None)
    if hasattr(inner, "event_hooks"):
        return [inner]
    google = getattr(client, "_api_client", None)
    if hasattr(google, "_httpx_client"):
        _refuse_aiohttp(google)
        found = [getattr(google, name, None) for name in ("_httpx_client", "_async_httpx_client")]
        return [each for each in found if each is not None]
    raise TypeError(
        f"{type(client).__name__} can't be metered: pass a client of openai, anthropic, google-genai or httpx,"
        " or give its answers to Meter.record"
    )


def _refuse_aiohttp(google: Any) -> None:
    uses_aiohttp = getattr(google, "_use_aiohttp", None)
    if uses_aiohttp is not None and uses_aiohttp():
        raise TypeError(
            "this google-genai client would send with aiohttp, which can't be metered: pass"
            " http_options={'httpx_async_client': httpx2.AsyncClient()} to it"
        )


def _takes_stream_options(endpoint: Endpoint) -> bool:
    return (
        endpoint.api not in {"openai_responses", "anthropic"} and endpoint.provider not in SEND_USAGE_UNASKED
    )


class _Tee:
    """A response's bytes on their way to the application; `keep` gets the usage once they have ended."""

    def __init__(self, stream: Any, reader: Reader, keep: Callable[[dict[str, Any]], None]) -> None:
        self._stream = stream
        self._reader = reader
        self._keep: Callable[[dict[str, Any]], None] | None = keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _end(self) -> None:
        """Once, at the end of the bytes or where the application stops reading them."""
        keep, self._keep = self._keep, None
        if keep is not None:
            keep(self._reader.usage())


class _SyncTee(_Tee):
    def __iter__(self) -> Iterator[bytes]:
        for data in self._stream:
            if passed := self._reader.take(data):
                yield passed
        if rest := self._reader.rest():
            yield rest
        self._end()

    def close(self) -> None:
        self._stream.close()
        self._end()


class _AsyncTee(_Tee):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            if passed := self._reader.take(data):
                yield passed
        if rest := self._reader.rest():
            yield rest
        self._end()

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._end()


def _metered(response: Any) -> _Call | None:
    call = response.request.extensions.get(_CALL)
    return call if call is not None and response.is_success else None


def _reader(response: Any, call: _Call) -> Reader:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return StreamedAnswer(hide=call.hide)
    return WholeAnswer(response.headers.get("content-encoding", ""))


def _library(thing: Any) -> Any:
    """The package, httpx or httpx2, that this client, request or response is of."""
    names = (each.__module__.partition(".")[0] for each in type(thing).__mro__)
    return importlib.import_module(next(name for name in names if name in _LIBRARIES))


def _json_object(request: Any, content: bytes) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        return {}
    body = json.loads(content)
    return body if isinstance(body, dict) else {}


def _model_in_form(content: bytes) -> str | None:
    found = _FORM_MODEL.search(content, 0, 1 << 20)
    return found[1].decode(errors="replace") if found else None


def _named(part: dict[str, Any], *names: str) -> bool:
    """Whether a pruned answer or chunk says one of these, itself or inside."""
    inner = [part, *(part[name] for name in ("response", "message") if isinstance(part.get(name), dict))]
    return any(each.get(name) for each in inner for name in names)
