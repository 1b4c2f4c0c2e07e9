"""Nothing that was put into the spool is lost: restarts, outages, refusals, forks, full disks."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from permille.client import UsageNotKeptError
from permille.client.sending import Sender, Server
from permille.client.spool import Spool, SpoolFile


class Permille(http.server.ThreadingHTTPServer):
    """Takes usages; refuses a batch with one that is `bad`, answers `status` to all while it is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[dict[str, Any]] = []
        self.status: int | None = None


class Handler(http.server.BaseHTTPRequestHandler):
    server: Permille

    def do_POST(self) -> None:
        usages = json.loads(self.rfile.read(int(self.headers["content-length"])))["usages"]
        refused = 422 if any(usage.get("bad") for usage in usages) else None
        status = self.server.status or refused or 200
        if status == 200:
            assert (self.path, self.headers["authorization"]) == ("/billing/api/v1/llm/usage", "Bearer key")
            self.server.taken += usages
        self.send_response(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def permille() -> Iterator[Permille]:
    server = Permille()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def sender(spool: Spool, permille: Permille) -> Sender:
    return Sender(spool, Server(f"http://127.0.0.1:{permille.server_port}/billing/", "key"))


def numbers(permille: Permille) -> list[int]:
    return [usage["number"] for usage in permille.taken]


def test_usages_are_sent_once_in_order_and_over_an_outage(permille: Permille, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(250):
        spool.append({"number": number})
    permille.status = 503
    assert not sender(spool, permille).flush(0)
    permille.status = None
    assert sender(spool, permille).flush(5)
    assert sender(spool, permille).flush(5)
    assert numbers(permille) == list(range(250))
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_refused_usage_is_set_aside_with_its_reason_and_holds_up_no_other(
    permille: Permille, tmp_path: Path
) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        spool.append({"number": number, "bad": number == 2})
    assert sender(spool, permille).flush(5)
    assert numbers(permille) == [0, 1, 3, 4]
    (refused,) = (tmp_path / "rejected.ndjson").read_text().splitlines()
    assert json.loads(refused) == {"reason": "{}", "usage": {"number": 2, "bad": True}}


def test_what_a_killed_process_left_is_sent_by_the_next_and_a_live_one_keeps_its_own(
    permille: Permille, tmp_path: Path
) -> None:
    program = f"""
import os
from pathlib import Path
from permille.client.spool import Spool
spool = Spool(Path({str(tmp_path)!r}))
for number in range(3):
    spool.append({{"number": number}})
print("ready", flush=True)
input()
os.kill(os.getpid(), 9)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    spool = Spool(tmp_path)
    spool.append({"number": 9})
    assert sender(spool, permille).flush(5)
    assert numbers(permille) == [9]
    process.communicate("\n")
    assert sender(spool, permille).flush(5)
    assert numbers(permille) == [9, 0, 1, 2]
    assert [path.suffix for path in tmp_path.iterdir() if path.name.startswith(str(process.pid))] == []


def test_a_line_that_was_cut_by_a_crash_is_not_sent(permille: Permille, tmp_path: Path) -> None:
    file = SpoolFile.make(tmp_path)
    file.append({"number": 1})
    with file.path.open("ab") as raw:
        raw.write(b'{"number": 2')
    file.forget()
    assert sender(Spool(tmp_path), permille).flush(5)
    assert numbers(permille) == [1]


def test_a_line_that_does_not_fit_is_taken_out_again_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = SpoolFile.make(tmp_path)
    file.append({"number": 1})
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, line: write(descriptor, line[:4]))
    with pytest.raises(UsageNotKeptError):
        file.append({"number": 2})
    monkeypatch.undo()
    file.append({"number": 3})
    waiting = file.waiting(10)
    assert waiting is not None
    assert waiting.lines == [b'{"number":1}\n', b'{"number":3}\n']


def test_a_forked_process_has_a_file_of_its_own(permille: Permille, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append({"number": 1})
    child = os.fork()
    if child == 0:
        spool.append({"number": 2})
        os._exit(0)
    os.waitpid(child, 0)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert sender(spool, permille).flush(5)
    assert sorted(numbers(permille)) == [1, 2]


def test_the_client_imports_nothing_of_the_server() -> None:
    program = "import sys, permille.client; print(sorted(m for m in sys.modules if m.partition('.')[0] == 'permille'))"
    names = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert all(name.startswith("permille.client") or name == "permille" for name in eval(names))
