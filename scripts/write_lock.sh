#!/usr/bin/env bash
# Resolve every extra together in a fresh environment and write down the exact versions.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
# torch first, by its exact version: a range would take the newest build with CUDA.
"$folder/bin/python" -m pip install --quiet torch==2.13.0
"$folder/bin/python" -m pip install --quiet hatchling editables --editable '.[agent,agent-train,tflite,server,train,dev]'
{
  echo "# Written by scripts/write_lock.sh (make lock): every extra, resolved together."
  "$folder/bin/python" -m pip freeze --exclude edgeward | sed 's/+cpu$//'
} > requirements.lock
