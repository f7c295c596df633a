#!/bin/sh
# Copy the image's models into a folder that is a store, or will be: fill-store DIR. Versions that are there already
# are left as they are, be they the image's or somebody's own. Several may run at a time: a copy is made under a name
# that the service ignores, and then put in its place.
set -eu
store=$1
cd "$MOMENTUM_STORE"
for version in */*; do
    place="$store/$version"
    if test -e "$place"; then
        echo "$version is there"
        continue
    fi
    copy="${place%/*}/.$(hostname)"
    mkdir -p "${place%/*}"
    rm -rf "$copy"
    cp -R "$version" "$copy"
    mv -T "$copy" "$place" || test -e "$place"
    rm -rf "$copy"
    echo "$version is new"
done
