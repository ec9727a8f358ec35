#!/usr/bin/env bash
# Installs what is missing, by name, with the system's own package clients; what is there is left alone.
#
#   setup.sh toolchain    a Rust toolchain that is new enough (only checked)
#   setup.sh build        what compiling Rondel needs
#   setup.sh tests        what its tests need: Java and Maven for Kafka and the schema registry, Python for the judges, psql; and the pinned
#                         packages of both, into the cache
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

missing=()

# need PACKAGE COMMAND…: PACKAGE is missing unless COMMAND succeeds.
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

# Programs of one file need the compiler too, so a JRE is not enough.
java_17() {
    local version
    version=$(javac -version 2>&1) || return 1
    [[ $version =~ ^javac\ ([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 17 ]
}

check_toolchain() {
    local wanted found
    wanted=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' "$here/../../Cargo.toml")
    if ! found=$(rustc --version 2>/dev/null); then
        echo "Rondel needs Rust 1.$wanted or newer, and there is no rustc here: install it with rustup." >&2
        return 1
    fi
    if [[ ! $found =~ ^rustc\ 1\.([0-9]+) ]] || [ "${BASH_REMATCH[1]}" -lt "$wanted" ]; then
        echo "Rondel needs Rust 1.$wanted or newer, and this is $found: rustup update stable brings it." >&2
        return 1
    fi
}

check_build() {
    need gcc cc --version
    need g++ c++ --version
    need make make --version
    need pkg-config pkg-config --version
    need libssl-dev pkg-config --exists openssl
    need zlib1g-dev pkg-config --exists zlib
}

check_tests() {
    need default-jdk-headless java_17
    need maven mvn --version
    need python3 python3 --version
    need python3-venv python3 -c "import ensurepip, venv"
    need postgresql-client psql --version
    need util-linux flock --version
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "Missing here, by their Debian names: ${missing[*]}. Install them with your system's package manager." >&2
        return 1
    fi
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "Missing here: ${missing[*]}. As root: apt-get install ${missing[*]}" >&2
            return 1
        fi
        root=(sudo)
    fi
    echo "Installing ${missing[*]}" >&2
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

packages=false
for part in "$@"; do
    case $part in
    toolchain) check_toolchain ;;
    build) check_build ;;
    tests)
        check_tests
        packages=true
        ;;
    *)
        echo "usage: setup.sh [toolchain] [build] [tests]" >&2
        exit 2
        ;;
    esac
done
install_missing
if $packages; then
    "$here/kafka/broker.sh" install >/dev/null
    "$here/registry/registry.sh" install >/dev/null
    "$here/python/python.sh" install >/dev/null
    "$here/s3/s3.sh" install >/dev/null
fi
