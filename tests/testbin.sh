#!/usr/bin/env bash
# Builds the Go programs that the tests run (see tests/controlplane, tests/knative/oracle and tests/queues) into
# $PODSWELL_TEST_BIN, or target/testbin, and installs Prometheus, RabbitMQ and NATS where they are missing.
#
#   tests/testbin.sh [NAME...]      one or more of: controlplane leash knative-oracle queue-app
#                              prometheus faketime rabbitmq nats (default: all)
#
# What is up to date is left alone: a stamp beside each program holds the hash of its sources and Go version.
# The control plane takes about 15 CPU minutes with a cold Go build cache, seconds with a warm one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin=${PODSWELL_TEST_BIN:-$PWD/../target/testbin}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes v//p' controlplane/go.mod)

# build NAME MODULE-FOLDER PACKAGE [LDFLAGS]
build() {
  local name=$1 folder=$2 package=$3 ldflags="-s -w ${4:-}" stamp
  stamp=$(cd "$folder" && { go version; echo "$package $ldflags"; cat go.mod go.sum "$package"/*.go; } | sha256sum)
  if [[ -x $bin/$name && -f $bin/$name.stamp && $(<"$bin/$name.stamp") == "$stamp" ]]; then
    return
  fi
  echo "building $name" >&2
  (cd "$folder" && go build -trimpath -ldflags "$ldflags" -o "$bin/$name.new" "$package")
  mv "$bin/$name.new" "$bin/$name"
  echo "$stamp" >"$bin/$name.stamp"
}

# install PACKAGE: Debian's, with what it needs. One with a server would start that as a service; a
# policy-rc.d that says no prevents it.
install() {
  if dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed'; then
    return
  fi
  echo "installing $1" >&2
  local sudo='' policy=/usr/sbin/policy-rc.d own=false
  if ((EUID != 0)); then
    sudo=sudo
  fi
  if [[ ! -e $policy ]]; then
    own=true
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
  fi
  apt_install "$1" || { $sudo apt-get -qq update && apt_install "$1"; }
  if $own; then
    $sudo rm -f "$policy"
  fi
}

apt_install() {
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$1" >/dev/null
}

one() {
  case $1 in
  controlplane)
    local v=k8s.io/component-base/version
    IFS=. read -r major minor _ <<<"$kubernetes"
    build controlplane controlplane . \
      "-X $v.gitVersion=v$kubernetes -X $v.gitMajor=$major -X $v.gitMinor=$minor"
    ;;
  leash) build leash controlplane ./leash ;;
  knative-oracle) build knative-oracle knative/oracle . ;;
  queue-app) build queue-app queues . ;;
  prometheus) install prometheus ;;
  rabbitmq) install rabbitmq-server ;;
  nats) install nats-server ;;
  faketime) install libfaketime ;;
  browser) install chromium-driver && install fonts-dejavu-core ;;
  *)
    echo "testbin.sh: unknown program $1" >&2
    exit 2
    ;;
  esac
}

# Several test processes may ask at the same time: the first builds, the others wait and find it done.
exec 9>"$bin/.lock"
flock 9
for name in "${@:-leash knative-oracle queue-app prometheus faketime browser rabbitmq nats controlplane}"; do
  for each in $name; do
    one "$each"
  done
done
