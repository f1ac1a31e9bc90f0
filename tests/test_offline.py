"""The network is blocked while tests and notebooks run, so nothing in them can depend on it."""

import os
import socket

import pytest


@pytest.mark.skipif(os.environ.get("RAGKIT_OFFLINE") != "1", reason="not started through tests/offline.sh")
def test_only_loopback_answers():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=2):
        pass
    with pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("192.0.2.1", 80), timeout=2)
