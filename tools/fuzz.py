"""Send what the OpenAPI document allows, and what it doesn't, to a fresh server of this checkout.

    python -m tools.fuzz [--seconds 60] [--seed N] [options of schemathesis]

An organization with an object of every kind is called by its own document, by a fixed seed and by a fresh one, which
is printed. No answer may be a 500, or be another than the document says, and the audit has to
find nothing afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from tests.client.world import NOW, make_world
from tests.live import ADMIN_KEY, LiveServer, live_server

FIXED_SEED = 13
EACH_RULE = "coverage,fuzzing"
"""What the fixed seed does: each rule of the document kept and broken by itself, then whatever it allows."""
CHANCE = "fuzzing,stateful"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
PARAMETER = re.compile(r"{(\w+)}")
IDENTIFIERS = ("lago_id", "external_id", "code", "transaction_id", "activity_id", "request_id")
KNOWN = 0.2
"""How often a text is an identifier of some object of the organization."""
RIGHT = 0.8
"""How often an identifier in a path is one of an object of that kind."""


@dataclass(frozen=True, slots=True)
class Fuzzer:
    seed: int
    log: Path
    process: subprocess.Popen[bytes]

    def is_content(self) -> bool:
        """Wait for its end: whether all answers were right."""
        code = self.process.wait()
        print(f"Seed {self.seed} ended with {code}:\n{self.log.read_text(errors='replace')}", flush=True)
        return code == 0


def identifiers(client: httpx2.Client, document: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Identifiers of the organization's objects: by the collection's path, and by name."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, methods in document["paths"].items():
        if "get" not in methods or "{" in path or not path.startswith("/api/v1/"):
            continue
        answer = client.get(path.removeprefix("/api/v1"))
        if answer.status_code != 200 or "json" not in answer.headers["content-type"]:
            continue
        for rows in answer.json().values():
            for row in rows if isinstance(rows, list) else ():
                for name in IDENTIFIERS:
                    if isinstance(row, dict) and isinstance(row.get(name), str):
                        found[path][name].append(row[name])
    return found


def configuration(server: LiveServer, key: str) -> str:
    """Settings of schemathesis: keys, and identifiers of objects that there are."""
    with server.client(key) as client:
        document = client.get("/openapi.json").json()
        found = identifiers(client, document)
    spare = server.organization(name="Spare")
    dictionaries = {
        "known": sorted({each for names in found.values() for values in names.values() for each in values}),
        "spare": [spare["lago_id"]],
    }
    operations = [
        _operation(path, {"path.organization_id": {"dictionary": "spare", "probability": 1.0}})
        for path in document["paths"]
        if "{organization_id}" in path
    ]
    for path in document["paths"]:
        collection = next((each for each in found if path.startswith(f"{each}/{{")), None)
        if collection is None:
            continue
        bound = {}
        for name in PARAMETER.findall(path):
            if name in found[collection]:
                dictionaries[f"{collection}.{name}"] = found[collection][name][:20]
                bound[f"path.{name}"] = {"dictionary": f"{collection}.{name}", "probability": RIGHT}
        operations.append(_operation(path, bound))
    return "\n".join(_toml(key, dictionaries, operations))


def _operation(path: str, parameters: dict[str, Any]) -> str:
    bound = ", ".join(
        f'"{name}" = {{ dictionary = "{each["dictionary"]}", probability = {each["probability"]} }}'
        for name, each in parameters.items()
    )
    return f'[[operations]]\ninclude-path = "{path}"\nparameters = {{ {bound} }}'


def _toml(key: str, dictionaries: dict[str, list[str]], operations: Iterable[str]) -> Iterator[str]:
    yield f'auth.openapi.api_key.bearer = "{key}"'
    yield f'auth.openapi.admin_key.bearer = "{ADMIN_KEY}"'
    yield f'generation.dictionaries.string = {{ dictionary = "known", probability = {KNOWN} }}'
    yield "request-timeout = 30.0"
    for name, values in dictionaries.items():
        yield f'[dictionaries."{name}"]\nvalues = {json.dumps(values)}'
    yield from operations


def start(server: LiveServer, settings: Path, seed: int, options: list[str]) -> Fuzzer:
    """A process of its own: schemathesis's threads make Python's parser fail now and then."""
    log = settings.parent / f"{seed}.log"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run"),
        *("--seed", str(seed), "--checks", ",".join(CHECKS), "--warnings", "off", "--continue-on-failure"),
        *options,
        f"{server.url}/api/v1/openapi.json",
    ]
    with log.open("wb") as output:
        return Fuzzer(seed, log, subprocess.Popen(command, cwd=settings.parent, stdout=output, stderr=output))


def audited(server: LiveServer) -> bool:
    """Whether the installation's figures are right afterwards."""
    command = [
        sys.executable,
        "-m",
        "permille",
        "doctor",
        "--audit",
        "--data-dir",
        str(server.folder / "data"),
    ]
    return (
        subprocess.run(command, env={**os.environ, "PERMILLE_ALLOW_ROOT": "true"}, check=False).returncode
        == 0
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    arguments, extra = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="permille-fuzz-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with live_server(folder) as server:
            made = server.organization(test_mode=True, now=NOW)
            key = made["api_key"]
            with server.client(key) as client:
                make_world(client, server.url, key)
            settings = folder / "schemathesis.toml"
            settings.write_text(configuration(server, key))
            options = ["--max-time", str(arguments.seconds), *extra]
            fuzzers = [
                start(server, settings, FIXED_SEED, ["--phases", EACH_RULE, *options]),
                start(server, settings, arguments.seed, ["--phases", CHANCE, *options]),
            ]
            right = [each.is_content() for each in fuzzers]
            with server.client(key) as client:
                right.append(client.get("/customers").status_code == 200)
            right.append(audited(server))
            if not all(right):
                print(server.log())
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
