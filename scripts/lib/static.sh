#!/usr/bin/env bash
# How a static binary is built, for scripts that source this file: "${STATIC[@]}" cargo build …
#
# Given here, flags replace those of .cargo/config.toml: its cfg must be named again. With a target
# they are not for build scripts and macros, which cannot be static. What is built lies in
# $CARGO_TARGET_DIR/$STATIC_HOST.
set -euo pipefail

STATIC_HOST=$(rustc -vV | sed -n 's/^host: //p')
STATIC=(env "CARGO_BUILD_TARGET=$STATIC_HOST"
  "RUSTFLAGS=--cfg tokio_unstable -C target-feature=+crt-static")
