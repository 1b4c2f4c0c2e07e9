"""The meter: hooks into a provider's client, and puts the usage of each answer into the spool."""

import atexit
import os
import time
from pathlib import Path
from typing import Any, TypeVar

from permille.client.billing import BilledTo, current
from permille.client.hooks import Hooks, http_clients
from permille.client.pruning import prune
from permille.client.sending import Sender, Server
from permille.client.spool import Spool

Client = TypeVar("Client")
_AT_EXIT = 5.0


class Meter:
    """Bills calls of provider clients; one for a process is enough.

    `url` and `api_key` are Permille's; `spool` is a folder on a disk that survives a restart. Raises
    ValueError where one of the first two is missing.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        spool: str | Path | None = None,
        subscription: str | None = None,
        customer: str | None = None,
        properties: dict[str, str] | None = None,
    ) -> None:
        server = Server(
            _setting(url, "PERMILLE_URL", "url"), _setting(api_key, "PERMILLE_API_KEY", "api_key")
        )
        folder = spool or os.environ.get("PERMILLE_SPOOL") or Path.home() / ".permille" / "spool"
        self._billed_to = BilledTo(subscription, customer, properties or {})
        self._spool = Spool(Path(folder))
        self._sender = Sender(self._spool, server)
        self._spool.ready()
        self._sender.wake()
        atexit.register(self.flush, _AT_EXIT)

    def meter(
        self,
        client: Client,
        *,
        subscription: str | None = None,
        customer: str | None = None,
        provider: str | None = None,
        include_usage: bool = True,
    ) -> Client:
        """Bill what this client calls from now on, and return it.

        Takes OpenAI, AsyncOpenAI (also Azure's), Anthropic, AsyncAnthropic and google.genai's Client, or an
        httpx client. `subscription` or `customer` bills this client's calls to another than the meter's.
        `provider` says who serves an address that is not a provider's own. A stream of the chat API has its
        usage only when asked for: `include_usage` asks, and keeps the extra chunk from your code; switch it
        off for a server that refuses `stream_options`. Raises TypeError for anything else.
        """
        named = subscription is not None or customer is not None
        default = BilledTo(subscription, customer, self._billed_to.properties) if named else self._billed_to
        hooks = Hooks(
            check=self._spool.ready,
            keep=self._keep,
            billed_to=default,
            provider=provider,
            include_usage=include_usage,
        )
        for http_client in http_clients(client):
            hooks.attach(http_client)
        return client

    def record(
        self,
        answer: dict[str, Any],
        *,
        provider: str,
        api: str | None = None,
        model: str | None = None,
        usage_id: str | None = None,
    ) -> None:
        """Bill an answer that came by another road (a websocket, a queue). Raises UsageNotKeptError."""
        fields = {"provider": provider, "api": api, "model": model, "id": usage_id, "response": prune(answer)}
        self._keep({name: value for name, value in fields.items() if value}, current(self._billed_to))

    def record_payload(self, payload: dict[str, Any], *, provider: str) -> None:
        """Bill what a gateway says of a call, without content, as it is. Raises UsageNotKeptError."""
        self._keep({"provider": provider, "response": payload}, current(self._billed_to))

    def flush(self, timeout: float = 10.0) -> bool:
        """Send what waits in the spool; False where something is still waiting after `timeout` seconds."""
        return self._sender.flush(timeout)

    def close(self) -> None:
        """Stop sending. What waits is sent by the next process that uses the folder."""
        atexit.unregister(self.flush)
        self._sender.stop()
        self._spool.close()

    def _keep(self, usage: dict[str, Any], billed_to: BilledTo) -> None:
        self._spool.append({**usage, **billed_to.fields(), "timestamp": f"{time.time():.3f}"})
        self._sender.wake()


_METERS: dict[tuple[str | None, str | None, str], Meter] = {}


def meter(
    client: Client,
    *,
    subscription: str | None = None,
    customer: str | None = None,
    provider: str | None = None,
    include_usage: bool = True,
    url: str | None = None,
    api_key: str | None = None,
    spool: str | Path | None = None,
) -> Client:
    """Bill what this client calls from now on, and return it: `Meter.meter` with one meter for the process."""
    key = (url, api_key, str(spool))
    made = _METERS.get(key) or _METERS.setdefault(key, Meter(url, api_key, spool=spool))
    return made.meter(
        client, subscription=subscription, customer=customer, provider=provider, include_usage=include_usage
    )


def _setting(given: str | None, variable: str, argument: str) -> str:
    value = given or os.environ.get(variable)
    if not value:
        raise ValueError(f"set {variable}, or pass {argument}=")
    return value
