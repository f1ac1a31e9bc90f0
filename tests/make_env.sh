#!/usr/bin/env bash
# Make the environment VENV and install requirements.lock into it, unless that was done: tests/make_env.sh VENV [PYTHON]
set -euo pipefail

venv=$1 python=$2
pip() { "$venv/bin/python" -m pip "$@"; }
# Bytecode is made where a module is first imported: most of what is installed never is.
install() { pip install -qq --no-compile --disable-pip-version-check "$@"; }

# The stamp holds what was installed from where; time stamps would lie after a clone or a move.
stamp=$venv/.ragkit-installed
wanted="$(pwd -P) $(cat requirements.lock pyproject.toml | cksum)"
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

if [ ! -x "$venv/bin/python" ]; then
  for candidate in "$python" python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    candidate=
  done
  if [ -z "$candidate" ]; then
    echo "No Python 3.11 or newer was found: install one, or say make PYTHON=/path/to/python"
    exit 1
  fi
  echo "== making $venv with $("$candidate" --version)"
  "$candidate" -m venv "$venv"
fi
echo "== installing into $venv: torch first, so that nothing else chooses a larger build of it"
torch=$(grep '^torch==' requirements.lock)
if [ -n "${UV_TORCH_BACKEND:-}" ]; then  # cpu: without the gigabytes of CUDA that pip would take on Linux
  install uv
  "$venv/bin/python" -m uv pip install -q --python "$venv/bin/python" "$torch"
else
  install "$torch"
fi
echo "== installing the other $(grep -c == requirements.lock) packages of requirements.lock (some minutes)"
install --no-deps -r requirements.lock
install --no-deps -e .
# Another system or Python may need a package more than the lock holds: pip finds it, within the lock's versions.
pip check || install -c requirements.lock -e ".[all]"
echo "$wanted" >"$stamp"
