"""The wheel with the extra ``serve`` in an empty environment, outside a checkout: its size, and the first answer.

It is built, installed with pip within ``requirements.lock``, and asked about ``data/handbook`` with an empty
``$RAGKIT_HOME``, from a folder that is no checkout, with no network (``serve`` apart). Needs a package index and
minutes; a Linux machine without a GPU wants ``$PIP_FIND_LINKS`` to name a folder with the CPU build of torch.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

Row = tuple[str, float | str, str, str]
ROOT = Path(__file__).resolve().parents[2]
COMMAND = "make bench BENCH=wheel"
QUESTION, ANSWER = "How many days off do I get per year?", "29 working days"
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


def megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


def first_of_mcp(command: list[str], environment: dict[str, str], folder: Path) -> tuple[float, float]:
    """Seconds to the answer to ``initialize``, and to the first answer of its tool ``ask``."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        call = {"name": "ask", "arguments": {"question": QUESTION}}
        for number, method, params in ((1, "initialize", HELLO), (2, "tools/call", call)):
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        greeted = time.perf_counter() - begin
        assert ANSWER in process.stdout.readline()
        answered = time.perf_counter() - begin
        process.stdin.close()
    return greeted, answered


def first_of_serve(command: list[str], environment: dict[str, str], folder: Path) -> float:
    """Seconds to the first answer of ``POST /query``, asked again until the index is built."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    body, headers = json.dumps({"question": QUESTION}).encode(), {"Content-Type": "application/json"}
    begin = time.perf_counter()
    with subprocess.Popen([*command, "--port", str(port)], cwd=folder, env=environment) as process:
        while process.poll() is None:
            try:
                with urlopen(Request(f"http://127.0.0.1:{port}/query", body, headers)) as response:
                    assert ANSWER in json.load(response)["text"]
                    break
            except OSError:  # not listening yet, or 503: not ready
                time.sleep(0.1)
        seconds = time.perf_counter() - begin
        process.terminate()
    return seconds


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        (wheel,) = folder.glob("*.whl")
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RAGKIT_TOKENS")}

        python = folder / "environment" / "bin" / "python"
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True)
        lock = str(ROOT / "requirements.lock")
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "-c", lock, f"{wheel}[serve]"]
        if subprocess.run(install, env=environment, check=False).returncode:
            return [("an environment with ragkit-workbench[serve]", COMMAND, "", "")]
        installing = time.perf_counter() - begin
        freeze = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)

        home = folder / "home"
        empty = folder / "empty"
        empty.mkdir()
        documents = folder / "handbook"
        shutil.copytree(ROOT / "data" / "handbook", documents)
        environment["RAGKIT_HOME"] = str(home)
        installed = str(python.with_name("ragkit"))
        ragkit = ["bash", str(ROOT / "tests" / "offline.sh"), installed]
        at = ["--corpus", str(documents)]

        def ask() -> float:
            begin = time.perf_counter()
            command = [*ragkit, "ask", QUESTION, *at]
            answer = subprocess.run(command, cwd=empty, env=environment, check=True, capture_output=True, text=True)
            assert ANSWER in answer.stdout, answer
            return time.perf_counter() - begin

        first, second = ask(), ask()
        greeted, answered = first_of_mcp([*ragkit, "mcp", *at], environment, empty)
        served = first_of_serve([installed, "serve", *at], environment, empty)
        return [
            ("the wheel", wheel.stat().st_size / 1e6, "MB", "<= 2"),
            ("the environment of [serve]", megabytes(folder / "environment"), "MB", ""),
            ("packages in it", len(json.loads(freeze.stdout)), "", ""),
            ("making it with pip", installing, "s", ""),
            ("ragkit ask, empty home: to the first answer", first, "s", ""),
            ("ragkit ask, again", second, "s", ""),
            ("ragkit mcp: to the answer to initialize", greeted, "s", ""),
            ("ragkit mcp: to the first answer of its tool ask", answered, "s", ""),
            ("ragkit serve: to the first answer of POST /query", served, "s", ""),
        ]
