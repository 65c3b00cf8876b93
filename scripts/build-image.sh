#!/usr/bin/env bash
# Builds the image `fluxgate` of docker-compose.cluster.yml from this checkout, and its secrets.
#
#   scripts/build-image.sh [--tag NAME]                  the image; needs Docker and pulls nothing
#   scripts/build-image.sh --binary FILE                 the image, from an existing static binary
#   scripts/build-image.sh --binary-only [--into DIR]    the static binary alone; needs Cargo only
#
# The binary is linked with everything it needs (glibc's static libraries, Debian package
# libc6-dev), so that it runs in an empty image. Random secrets go to config/compose/secrets,
# created once.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=fluxgate:latest binary= binary_only=0 into=
while (($#)); do
  case $1 in
    --tag) tag=${2:?--tag needs a name}; shift 2 ;;
    --binary) binary=${2:?--binary needs a file}; shift 2 ;;
    --binary-only) binary_only=1; shift ;;
    --into) into=${2:?--into needs a directory}; shift 2 ;;
    *) echo "build-image.sh: unknown word $1" >&2; exit 2 ;;
  esac
done

source scripts/lib/static.sh
if [[ -z $binary ]]; then
  target="${CARGO_TARGET_DIR:-$PWD/target}"
  CARGO_TARGET_DIR="$target" "${STATIC[@]}" cargo build --locked --release -p fluxgate
  binary="$target/$STATIC_HOST/release/fluxgate"
fi
if ldd "$binary" 2>&1 | grep -q '=>'; then
  echo "build-image.sh: $binary is not static" >&2
  exit 1
fi

# Docker sees only files below the checkout, wherever Cargo's folder is.
into="${into:-target/image}"
mkdir -p "$into/data"
install -m 755 "$binary" "$into/fluxgate.new"
strip --strip-debug "$into/fluxgate.new"
mv "$into/fluxgate.new" "$into/fluxgate"
if ((binary_only)); then
  echo "$into/fluxgate"
  exit 0
fi

command -v docker >/dev/null || { echo "build-image.sh: Docker is missing; as root: apt-get install -y docker.io docker-compose" >&2; exit 1; }
# Random, and only the missing ones: a running cluster keeps its own. Readable in the container,
# where another user runs; only the owner can enter the folder around them.
secrets=config/compose/secrets
mkdir -p -m 700 "$secrets"
for name in cluster.secret operator.token; do
  if [[ ! -s $secrets/$name ]]; then
    head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$secrets/$name"
    chmod 644 "$secrets/$name"
  fi
done
docker build --quiet --tag "$tag" . >/dev/null
echo "$tag: $(docker image inspect --format '{{.Size}}' "$tag") bytes"
