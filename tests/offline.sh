#!/usr/bin/env bash
# Run a command with the network blocked and only the loopback interface up: tests/offline.sh COMMAND ...
# Where the system does not permit that, say so and run it as it is. RAGKIT_OFFLINE=1 tells tests/test_offline.py
# that the block is promised, so that it can check it.
set -euo pipefail

if unshare --user --map-root-user --net ip link set lo up 2>/dev/null; then
  export RAGKIT_OFFLINE=1
  exec unshare --user --map-root-user --net bash -c 'ip link set lo up; exec "$@"' offline "$@"
fi
echo "== the network could not be blocked here (unshare --net is not permitted): running UNBLOCKED" >&2
exec "$@"
