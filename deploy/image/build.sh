#!/bin/sh
# The build stage: compiles the server in the sources SRC, and leaves the files of the final stage in OUT.
#
#   build.sh SRC OUT
#
# COMMIT goes into the build info. BINARY is a compiled server to take instead.
set -eu
src=$1 out=$2
mkdir -p "$out"
binary=${BINARY:-}
[ -n "$binary" ] || {
    # Without a commit, the build info says `unknown`.
    [ -z "${COMMIT:-}" ] || export SHORTLIST_COMMIT="$COMMIT"
    cargo build --manifest-path "$src/Cargo.toml" --release --locked --bin shortlist
    binary=${CARGO_TARGET_DIR:-$src/target}/release/shortlist
}
install -m 0755 "$binary" "$out/shortlist"
install -m 0644 "$src/LICENSE" "$out/LICENSE"
