#!/usr/bin/env bash
# Builds the Go programs that the tests run (see tests/controlplane, tests/knative, tests/queues and
# tests/keda) into $PODSWELL_TEST_BIN, or target/testbin, and installs what else they need from Debian.
#
#   tests/testbin.sh [NAME...]      one or more of: leash knative-oracle queue-app prometheus faketime openssl browser
#                                   rabbitmq nats controlplane keda-operator keda-adapter keda-crds
#                                   keda-tests-2.21 keda-tests-2.16 (default: all of these), and
#                                   knative-autoscaler, which only `make bench-cluster` runs
#
# What is up to date is left alone: a stamp beside each program holds the hash of its sources and Go version.
# The control plane takes about 15 CPU minutes with a cold Go build cache, KEDA about 20, both seconds
# to minutes with a warm one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin=${PODSWELL_TEST_BIN:-$PWD/../target/testbin}
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)
kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes v//p' controlplane/go.mod)

# build NAME MODULE-FOLDER PACKAGE [LDFLAGS]: a program, of the module itself or of one that it requires.
build() {
  local name=$1 folder=$2 package=$3 ldflags="-s -w ${4:-}"
  fresh "$name" "$folder" "$package $ldflags" "$package" || return 0
  (cd "$folder" && go build -trimpath -ldflags "$ldflags" -o "$bin/$name.new" "$package")
  made "$name"
}

# build_tests NAME MODULE-FOLDER: the tests of a module's root, which run without Go then.
build_tests() {
  local name=$1 folder=$2 ldflags='-s -w '
  fresh "$name" "$folder" "test $ldflags" . ../feed || return 0
  (cd "$folder" && go test -c -trimpath -ldflags "$ldflags" -o "$bin/$name.new" .)
  made "$name"
}

# What KEDA's users apply before its operator runs.
collect_crds() {
  fresh keda-crds keda/v2.21 crds || return 0
  local module
  module=$(cd keda/v2.21 && go mod download github.com/kedacore/keda/v2 &&
    go list -m -f '{{.Dir}}' github.com/kedacore/keda/v2)
  for file in "$module"/config/crd/bases/*.yaml; do
    echo '---'
    cat "$file"
  done >"$bin/keda-crds.new"
  made keda-crds
}

# fresh NAME MODULE-FOLDER OPTIONS [SOURCE-FOLDER...]: whether NAME has to be made; false if it is there.
fresh() {
  local name=$1 folder=$2 options=$3
  stamp=$(cd "$folder" && { go version; echo "$options"; cat go.mod go.sum; sources "${@:4}"; } | sha256sum)
  if [[ -e $bin/$name && -f $bin/$name.stamp && $(<"$bin/$name.stamp") == "$stamp" ]]; then
    return 1
  fi
  echo "building $name" >&2
}

sources() {
  for file in "${@/%//*.go}"; do
    for each in $file; do
      if [[ -e $each ]]; then
        cat "$each"
      fi
    done
  done
}

# made NAME: puts what is new into its place.
made() {
  mv "$bin/$1.new" "$bin/$1"
  echo "$stamp" >"$bin/$1.stamp"
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
  knative-autoscaler) build knative-autoscaler knative/autoscaler . ;;
  queue-app) build queue-app queues . ;;
  prometheus) install prometheus ;;
  rabbitmq) install rabbitmq-server ;;
  nats) install nats-server ;;
  faketime) install libfaketime ;;
  openssl) install openssl ;;
  browser) install chromium-driver && install fonts-dejavu-core ;;
  keda-operator) build keda-operator keda/v2.21 github.com/kedacore/keda/v2/cmd/operator ;;
  keda-adapter) build keda-adapter keda/v2.21 github.com/kedacore/keda/v2/cmd/adapter ;;
  keda-crds) collect_crds ;;
  keda-tests-2.21) build_tests keda-tests-2.21 keda/v2.21 ;;
  keda-tests-2.16) build_tests keda-tests-2.16 keda/v2.16 ;;
  *)
    echo "testbin.sh: unknown program $1" >&2
    exit 2
    ;;
  esac
}

# Several test processes may ask at the same time: the first builds, the others wait and find it done.
exec 9>"$bin/.lock"
flock 9
all='leash knative-oracle queue-app prometheus faketime openssl browser rabbitmq nats controlplane'
all+=' keda-operator keda-adapter keda-crds keda-tests-2.21 keda-tests-2.16'
for name in "${@:-$all}"; do
  for each in $name; do
    one "$each"
  done
done
