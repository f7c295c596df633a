#!/usr/bin/env bash
# Make an image of nginx from Debian packages, where no registry can be had: gateway.sh NAME MIRROR
# nginx 1.27.3 is the first whose upstreams resolve names again and again; Debian has it in forky.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include=nginx forky "$folder/root" "$2"
tar -C "$folder/root" -c . | docker import --change 'CMD ["nginx", "-g", "daemon off;"]' - "$1"
