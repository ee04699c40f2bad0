# SPDX-License-Identifier: Apache-2.0
# Sourced by scripts whose environments need Python 3.12: sets `python`, from $PYTHON or a usual place, and `uv`.
for python in ${PYTHON:-python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python3.12}; do
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null && break
    python=
done
if [ -z "$python" ]; then
    echo "$0: no Python 3.12 found; name one: PYTHON=/path/to/python3.12 $0" >&2
    exit 2
fi
# Not by ./setup, which would make .venv with this Python.
uv=$(command -v uv || true)
if [ -z "$uv" ] || ! "$uv" --version >/dev/null 2>&1; then
    uv=.venv-uv/bin/uv
    [ -x "$uv" ] || "$python" -m pip install --quiet --disable-pip-version-check --target .venv-uv 'uv>=0.9'
fi

