#!/bin/sh
# Rewrites the three lock files from the .in files. Needs uv; run it only to change a version.
set -eu
cd "$(dirname "$0")"
uv="${UV:-uv}"
flags="--quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate"
# shellcheck disable=SC2086
"$uv" pip compile $flags run.in -o run.txt
# shellcheck disable=SC2086
"$uv" pip compile $flags --no-deps localnet.in -o localnet.txt
# shellcheck disable=SC2086
"$uv" pip compile $flags dev.in -o dev.txt
