"""The process that holds a local model: llama.cpp's own server, OpenAI-compatible, on 127.0.0.1.

``python -m ragkit.llm.server PATH NAME PORT THREADS CONTEXT SLOTS`` prints its address as one line, and ends when its
standard input does: so it never outlives the process that started it, however that ends. ``$RAGKIT_SERVER_KEY`` is the
key that a request must bring.
"""

from __future__ import annotations

import os
import sys

import xllamacpp


def main() -> None:
    """Load the model, and serve it until standard input is closed."""
    path, name, port, threads, context, slots = sys.argv[1:]
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.model_alias = path, {name}
    settings.hostnames, settings.port = ["127.0.0.1"], int(port)
    settings.api_keys = [os.environ["RAGKIT_SERVER_KEY"]]
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = int(threads)
    settings.n_parallel, settings.n_ctx = int(slots), int(slots) * int(context)
    settings.ui = False
    settings.cache_ram_mib = 0  # else up to 8 GB of earlier prompts; a slot still knows its last one
    server = xllamacpp.Server(settings)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)  # its threads may still be answering somebody


if __name__ == "__main__":
    main()
