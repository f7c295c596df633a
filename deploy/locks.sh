#!/bin/sh
# Write the images' locks anew, from pyproject.toml: `make locks`. Needs uv.
set -eu
cd "$(dirname "$0")/.."
compile() {
    name=$1
    shift
    uv pip compile "$@" --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
        --python-version 3.11 --upgrade --output-file "deploy/locks/$name.txt"
}
mkdir -p deploy/locks
compile service pyproject.toml --extra cpu --extra tracing
compile batch pyproject.toml --extra cpu --extra tracing --extra batch --constraint deploy/locks/service.txt
compile service-gpu pyproject.toml --extra gpu --extra tracing
compile training pyproject.toml deploy/of-torch.txt --extra cpu --extra train --override deploy/without-torch.txt
echo 'setuptools>=80' | compile build -
