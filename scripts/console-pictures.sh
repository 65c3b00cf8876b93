#!/usr/bin/env bash
# Takes the pictures of docs/console/ again: each page of the console, light, dark and on a phone,
# of a real cluster of three nodes in a real Chromium (scripts/setup-tests.sh installs it).
#
#   scripts/console-pictures.sh [DIR=docs/console]
set -euo pipefail
cd "$(dirname "$0")/.."
DIR=${1:-docs/console}
mkdir -p "$DIR"
CONSOLE_PICTURES=$(realpath "$DIR")
export CONSOLE_PICTURES
exec cargo nextest run --locked -p fluxgate-tests --test blackbox \
  -E 'test(=console::pictures::every_page_is_drawn_in_every_state)'
