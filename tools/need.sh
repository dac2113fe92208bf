#!/bin/sh
# Says in one sentence what is missing on this machine, before something fails with a page of errors.
#
#     tools/need.sh python PROGRAM
#     tools/need.sh rust CARGO
#
# Only what every sh, sed and awk has: it also runs on macOS.
set -eu
cd "$(dirname "$0")/.."

# Whether version $1 is at least version $2. Words such as -nightly after it do not count.
is_at_least() {
    awk -v found="$1" -v wanted="$2" 'BEGIN {
        split(found, f, /[^0-9]+/); split(wanted, w, /[^0-9]+/)
        for (i = 1; i <= 2; i++) { if (f[i] + 0 != w[i] + 0) exit !(f[i] + 0 > w[i] + 0) }
    }'
}

fail() {
    echo "$1" >&2
    exit 1
}

case $1 in
python)
    wanted=$(sed -n 's/^requires-python = ">=\(.*\)"$/\1/p' pyproject.toml)
    other="name another one: make PYTHON=python3.12 …"
    command -v "$2" >/dev/null 2>&1 || fail "There is no $2 on the path. Python $wanted or later is needed: install it, or $other"
    found=$("$2" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
        fail "$2 does not run. Python $wanted or later is needed: install it, or $other"
    is_at_least "$found" "$wanted" || fail "$2 is Python $found, which is older than $wanted: install a later one, or $other"
    "$2" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$2 has no modules venv and ensurepip. On Debian and Ubuntu: apt-get install python3-venv"
    ;;
rust)
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    how="https://rustup.rs installs a current one; 'rustup update' renews it"
    command -v "$2" >/dev/null 2>&1 || fail "There is no $2 on the path. Rust $wanted or later is needed: $how"
    found=$("$2" --version 2>/dev/null | sed -n 's/^cargo \([0-9][0-9.]*\).*/\1/p')
    [ -n "$found" ] || fail "'$2 --version' does not say its version. Rust $wanted or later is needed: $how"
    is_at_least "$found" "$wanted" || fail "Rust $found is older than $wanted, which is needed: $how"
    ;;
esac
