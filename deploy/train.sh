#!/bin/sh
# Train a recipe, or go on with it, and export the best checkpoint as the next version of a model. The store may be
# that of a running service, which then serves the new version.
#   RECIPE  a file in recipes/, without .yaml (default: digits)
#   MODEL   the model's name in the store (default: digits)
# Arguments are for `python -m training fit`.
set -eu
recipe=${RECIPE:-digits}
run=runs/${recipe##*/}
set -- --config "recipes/$recipe.yaml" "$@"
if [ -f "$run/last.ckpt" ]; then
    set -- "$@" --ckpt_path "$run/last.ckpt"
fi
python -m training fit "$@"
exec python -m exports "$run/best.ckpt" --name "${MODEL:-digits}" --store "$MOMENTUM_STORE"
