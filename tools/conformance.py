"""Run the black-box scenarios that this version covers against a fresh server of this checkout.

    python tools/conformance.py ../shared/conformance [pytest arguments]

tests/conformance/covered.txt names what must pass, a file or a test a line; --all runs every scenario.
The scenarios are kept beside the repository, not in it: where they are missing, nothing is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COVERED = ROOT / "tests" / "conformance" / "covered.txt"
ADMIN_KEY = "conformance"
PORT = int(os.environ.get("CONFORMANCE_PORT", "18080"))
URL = f"http://127.0.0.1:{PORT}"
PATIENT = {"PERMILLE_STATEMENT_TIMEOUT_SECONDS": "300", "PERMILLE_LOCK_TIMEOUT_SECONDS": "300"}
"""Limits of a server that refuses nothing because the machine is busy."""
MEMORY = Path("/dev/shm")
MEMORY_MIN = 4 * 1024**3
"""Bytes that must be free there for the database to be in memory, so that no scenario waits for a disk."""


def wait_until_ready(server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if server.poll() is not None:
            sys.exit(f"The server ended with {server.returncode}.")
        try:
            with urllib.request.urlopen(f"{URL}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    sys.exit("The server was not ready within two minutes.")


def selected(scenarios: Path, arguments: list[str]) -> list[str]:
    if "--all" in arguments:
        return [str(scenarios / "open")]
    lines = [line.strip() for line in COVERED.read_text().splitlines()]
    return [str(scenarios / "open" / line) for line in lines if line and not line.startswith("#")]


def main() -> int:
    scenarios, arguments = Path(sys.argv[1]).resolve(), sys.argv[2:]
    if not (scenarios / "open").is_dir():
        print(f"No scenarios at {scenarios}: the conformance step is left out.")
        return 0
    environment = {**os.environ, **PATIENT, "PERMILLE_ADMIN_KEY": ADMIN_KEY, "PERMILLE_URL": URL}
    permille = [sys.executable, "-m", "permille"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", "3"]
    pytest += ["-p", "tests.conformance.patient_clock"]
    extra = [argument for argument in arguments if argument != "--all"]
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_MIN
    with tempfile.TemporaryDirectory(dir=MEMORY if is_roomy else None) as folder:
        Path(folder).chmod(0o711)  # the user of the database must pass through
        log = Path(folder) / "server.log"
        up = [*permille, "up", "--port", str(PORT), "--data-dir", str(Path(folder) / "data")]
        with log.open("wb") as output:
            server = subprocess.Popen(up, env=environment, stdout=output, stderr=output)
        try:
            wait_until_ready(server)
            command = [*pytest, *selected(scenarios, arguments), *extra]
            # Each scenario makes two clients, and each would read all certificates of the machine, for plain HTTP.
            no_certificates = Path(folder) / "no-certificates"
            no_certificates.mkdir()
            environment.pop("SSL_CERT_FILE", None)
            environment["SSL_CERT_DIR"] = str(no_certificates)
            paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
            environment["PYTHONPATH"] = os.pathsep.join(paths)
            return subprocess.run(command, env=environment, cwd=folder, check=False).returncode
        finally:
            server.terminate()
            server.wait(60)
            if os.environ.get("CONFORMANCE_LOG"):
                print(log.read_text(errors="replace")[-20_000:])


if __name__ == "__main__":
    sys.exit(main())
