#!/usr/bin/env bash
# Run a command with the network blocked and only the loopback interface up: tests/offline.sh COMMAND ...
# Where the system does not permit that, say so and run it as it is. RAGKIT_OFFLINE=1 tells tests/test_offline.py
# that the block is promised, so that it can check it.
set -euo pipefail

# Raising the interface takes root. The command keeps its user: PostgreSQL does not run as root, and root has to be the
# real one to start it as another user.
if [ "$(id -u)" = 0 ]; then
  block=(unshare --net) keep=(env)
else
  block=(unshare --user --map-root-user --net) keep=(unshare --user --map-user="$(id -u)" --map-group="$(id -g)")
fi
if "${block[@]}" ip link set lo up 2>/dev/null; then
  export RAGKIT_OFFLINE=1
  exec "${block[@]}" bash -c 'ip link set lo up; exec "$@"' offline "${keep[@]}" "$@"
fi
echo "== the network could not be blocked here (unshare --net is not permitted): running UNBLOCKED" >&2
exec "$@"
