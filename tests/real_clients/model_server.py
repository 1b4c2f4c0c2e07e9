"""A model server that answers as OpenAI, Anthropic and Google do: whole and streamed, with fixed usage.

Every answer has an id of its own. All texts are `SECRET`, which must be found nowhere afterwards. A request whose
model is `busy-once-...` is refused with 503 the first time. The end of a stream of Anthropic has the counts of its start
again for `claude-repeats` alone: the API repeats them by now, and servers that speak like it may not.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "the planted secret"
OPENAI_CHAT = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920},
    "completion_tokens_details": {"reasoning_tokens": 192},
}
OPENAI_RESPONSES = {
    "input_tokens": 2006,
    "input_tokens_details": {"cached_tokens": 1920},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 192},
    "total_tokens": 2306,
}
ANTHROPIC: dict[str, Any] = {
    "input_tokens": 12,
    "cache_read_input_tokens": 8000,
    "cache_creation_input_tokens": 1500,
    "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 1000},
    "output_tokens": 250,
    "service_tier": "standard",
}
GOOGLE: dict[str, Any] = {
    "promptTokenCount": 1000,
    "candidatesTokenCount": 200,
    "thoughtsTokenCount": 50,
    "totalTokenCount": 1250,
}

Event = tuple[str | None, Any]


class ModelServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.numbers = itertools.count(1)
        self.refused: set[str] = set()
        self.calls = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def openai_chat(body: dict[str, Any], number: int) -> dict[str, Any] | list[Event]:
    head = {
        "id": f"chatcmpl-{number}",
        "created": 1795824000,
        "model": body["model"],
        "service_tier": "default",
    }
    if not body.get("stream"):
        message = {"role": "assistant", "content": SECRET}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": OPENAI_CHAT}
    head["object"] = "chat.completion.chunk"
    chunks: list[Event] = [
        (
            None,
            {
                **head,
                "choices": [
                    {"index": 0, "delta": {"role": "assistant", "content": SECRET}, "finish_reason": None}
                ],
            },
        ),
        (None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append((None, {**head, "choices": [], "usage": OPENAI_CHAT}))
    return [*chunks, (None, "[DONE]")]


def openai_responses(body: dict[str, Any], number: int) -> dict[str, Any] | list[Event]:
    text = {"type": "output_text", "text": SECRET, "annotations": []}
    message = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [text],
    }
    response = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1795824000,
        "model": body["model"],
        "status": "completed",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": OPENAI_RESPONSES,
    }
    if not body.get("stream"):
        return response
    begun = {**response, "usage": None, "output": [], "status": "in_progress"}
    return [
        ("response.created", {"type": "response.created", "sequence_number": 0, "response": begun}),
        ("response.completed", {"type": "response.completed", "sequence_number": 1, "response": response}),
    ]


def embeddings(body: dict[str, Any], number: int) -> dict[str, Any]:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return {
        "object": "list",
        "model": body["model"],
        "data": [vector],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }


def anthropic(body: dict[str, Any], number: int) -> dict[str, Any] | list[Event]:
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": SECRET}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": ANTHROPIC,
    }
    if not body.get("stream"):
        return message
    start = {**message, "content": [], "stop_reason": None, "usage": {**ANTHROPIC, "output_tokens": 1}}
    text = {"type": "text_delta", "text": SECRET}
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    repeated = {name: count for name, count in ANTHROPIC.items() if isinstance(count, int)}
    last = repeated if body["model"] == "claude-repeats" else {"output_tokens": 250}
    return [
        ("message_start", {"type": "message_start", "message": start}),
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": text}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": end, "usage": last}),
        ("message_stop", {"type": "message_stop"}),
    ]


def google(path: str, number: int) -> dict[str, Any] | list[Event]:
    answer: dict[str, Any] = {
        "responseId": f"google-{number}",
        "modelVersion": path.rpartition("/")[2].partition(":")[0],
        "candidates": [{"content": {"role": "model", "parts": [{"text": SECRET}]}, "finishReason": "STOP"}],
        "usageMetadata": GOOGLE,
    }
    if "streamGenerateContent" not in path:
        return answer
    first = {**answer, "usageMetadata": {**GOOGLE, "candidatesTokenCount": 1, "totalTokenCount": 1051}}
    return [(None, first), (None, answer)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0]
        model = str(body.get("model", path))
        if "busy-once" in model and model not in self.server.refused:
            self.server.refused.add(model)
            self._json({"error": {"message": "busy", "type": "server_error"}}, 503)
            return
        self.server.calls += 1
        answer = self._answer(path, body, next(self.server.numbers))
        if isinstance(answer, list):
            self._events(answer)
        else:
            self._json(answer)

    def _answer(self, path: str, body: dict[str, Any], number: int) -> dict[str, Any] | list[Event]:
        answers = {
            "/chat/completions": openai_chat,
            "/responses": openai_responses,
            "/embeddings": embeddings,
            "/messages": anthropic,
        }
        for end, answer in answers.items():
            if path.endswith(end):
                return answer(body, number)
        return google(path, number)

    def _json(self, answer: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("x-request-id", f"req_{next(self.server.numbers)}")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _events(self, events: list[Event]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for name, data in events:
            line = data if isinstance(data, str) else json.dumps(data)
            event = (f"event: {name}\n" if name else "") + f"data: {line}\n\n"
            for piece in (event[:9], event[9:]):
                self.wfile.write(f"{len(piece.encode()):x}\r\n{piece}\r\n".encode())
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass
