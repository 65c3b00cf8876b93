#!/usr/bin/env bash
# Takes pictures of the console: each page, light, dark and on a phone, of a real cluster of three
# nodes in a real Chromium (scripts/setup-tests.sh installs it).
#
#   scripts/console-pictures.sh [--keep] [DIR]      DIR: $CARGO_TARGET_DIR/console
#
# --keep also replaces the pictures in docs/console.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib/static.sh   # as check.sh builds the tests
keep=0
[[ ${1:-} != --keep ]] || { keep=1; shift; }
DIR=${1:-${CARGO_TARGET_DIR:-target}/console}
mkdir -p "$DIR"
CONSOLE_PICTURES=$(realpath "$DIR")
export CONSOLE_PICTURES
"${STATIC[@]}" cargo nextest run --locked -p fluxgate-tests --test blackbox \
  -E 'test(=console::pictures::every_page_is_drawn_in_every_state)'
((keep)) || exit 0
for kept in docs/console/*.png; do
  cp "$CONSOLE_PICTURES/${kept##*/}" "$kept"
done
