"""What it costs to begin: importing ragkit, loading the packaged model's tokenizer."""

import subprocess
import sys

TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def best(code: str, times: int = 5) -> float:
    """Seconds that ``code`` takes in a new Python, the best of some."""
    command = [sys.executable, "-c", TIMED.format(code)]
    return min(float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(times))


def main() -> list[tuple[str, float, str, str]]:
    tokenizer = "from ragkit.tokens import minilm_tokenizer; minilm_tokenizer()"
    return [
        ("import ragkit", best("import ragkit") * 1000, "ms", "<= 300"),
        ("the embedder's tokenizer, verified and loaded", best(tokenizer) * 1000, "ms", ""),
    ]
