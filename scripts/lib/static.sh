#!/usr/bin/env bash
# Flags for a static binary, for scripts that source this file: "${STATIC[@]}" cargo build …
#
# These flags replace those of .cargo/config.toml, so its cfg is repeated here. With a target triple
# they do not apply to build scripts and macros, which cannot be static. The output is in
# $CARGO_TARGET_DIR/$STATIC_HOST.
set -euo pipefail

STATIC_HOST=$(rustc -vV | sed -n 's/^host: //p')
STATIC=(env "CARGO_BUILD_TARGET=$STATIC_HOST"
  "RUSTFLAGS=--cfg tokio_unstable -C target-feature=+crt-static")
