#!/usr/bin/env bash
# Runs targets of the Makefile one after the other, stops at the first that fails, and prints how long
# each took:   tests/stages.sh STAGE...
#
# Each stage has a process group of its own, so that whatever it started ends with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

times=()
group=''
end_group() {
  if [[ -n $group ]]; then
    kill -- "-$group" 2>/dev/null || true
    group=''
  fi
}
finish() {
  local status=$?
  end_group
  printf '\n%-24s %8s\n' stage seconds
  if ((${#times[@]})); then printf '%-24s %8s\n' "${times[@]}"; fi
  if ((status != 0)); then echo "the last stage failed with status $status"; fi
}
trap finish EXIT
trap 'exit 130' INT TERM

for stage in "$@"; do
  printf '\n== %s\n' "$stage"
  started=$SECONDS status=0
  set -m
  make --no-print-directory "$stage" </dev/null &
  group=$!
  set +m
  wait "$group" || status=$?
  end_group
  times+=("$stage" "$((SECONDS - started))")
  ((status == 0)) || exit "$status"
done
