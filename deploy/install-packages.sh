#!/bin/sh
# Install the Debian or Ubuntu packages that are missing, and start none of their services.
# install-packages.sh [PACKAGE ...]
set -eu

# clang, libbpf-dev: compile bpf/*.bpf.c    libbpf1: load them    nginx-light: demo and tests
# python3-venv: .venv of the system's Python
wanted="${*:-clang libbpf-dev libbpf1 nginx-light python3-venv}"

command -v dpkg-query >/dev/null 2>&1 || { echo "not a Debian or Ubuntu system; please install: $wanted" >&2; exit 0; }
missing=""
for package in $wanted; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "missing:$missing. Without root they cannot be installed; the demo will replay a recording" >&2; exit 0; }
    as_root=sudo
fi
echo "installing$missing" >&2

# A package must not open a port on somebody's machine: forbid service starts meanwhile.
guard=/usr/sbin/policy-rc.d
if [ ! -e "$guard" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$guard" >/dev/null
    $as_root chmod 755 "$guard"
    trap '$as_root rm -f "$guard"' EXIT
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086  # one word per package
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
