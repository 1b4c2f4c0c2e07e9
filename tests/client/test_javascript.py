"""Every method of Lago's JavaScript client: what is built works, what isn't says so. New methods are found by themselves."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.client.world import NOW, make_world
from tests.live import LiveServer
from tests.odd_ids import ODD_IDS

FOLDER = Path(__file__).parent / "javascript"
DIRECTIONS = (".", "..")  # fetch takes these for directions, encoded or not


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js with the client that the lock file names."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js and npm are not installed: lago-javascript-client is not tested")
    lock = FOLDER / "package-lock.json"
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, check=False, cwd=FOLDER, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"npm could not install lago-javascript-client: {done.stderr}"
    return node


@pytest.fixture(scope="module")
def answers(server: LiveServer, node: str) -> Any:
    key = server.organization(test_mode=True, now=NOW)["api_key"]
    world = make_world(server.client(key), server.url, key)
    odd = [each for each in ODD_IDS if each not in DIRECTIONS]
    done = subprocess.run(
        [node, "every_method.mjs"],
        check=False,
        cwd=FOLDER,
        input=json.dumps({"world": world, "odd": odd}),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_built_works(answers: Any) -> None:
    built = {name: found for name, found in answers["results"].items() if found["built"]}
    assert len(built) > 150
    problems = {name: found for name, found in built.items() if found.get("status") != 200}
    assert not problems, problems


def test_what_is_not_built_says_so(answers: Any) -> None:
    others = {name: found for name, found in answers["results"].items() if not found["built"]}
    assert len(others) > 15
    wrong = {name: found for name, found in others.items() if found.get("status") != 501}
    refused = [wrong.pop(name)["status"] for name, found in others.items() if found["needsProvider"]]
    assert refused == [404] * 6
    assert wrong.pop("invoices.retryInvoice")["status"] == 404  # no invoice of ours ever fails
    assert wrong == {}


def test_the_public_keys_are_the_pem_in_base64(answers: Any) -> None:
    text, of_json = answers["keys"]["text"], answers["keys"]["json"]
    assert text == of_json
    assert base64.b64decode(text, validate=True).startswith(b"-----BEGIN PUBLIC KEY-----")


def test_encoded_ids_of_every_kind(answers: Any) -> None:
    assert answers["found"] == [each for each in ODD_IDS if each not in DIRECTIONS]
