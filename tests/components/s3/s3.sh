#!/usr/bin/env bash
# An S3 on loopback: moto's server, in an environment of its own in the cache. What it holds is in its memory.
#
#   s3.sh install       makes the environment, if it is not there yet
#   s3.sh serve PORT    serves until its standard input ends
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cache.sh
. "$here/../cache.sh"

make_environment() {
    python3 -m venv "$1" &&
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --prefer-binary -r "$here/requirements.txt"
}

environment=$(cached s3 "$here/requirements.txt" make_environment)
case "${1:-}" in
install) printf '%s\n' "$environment" ;;
serve) exec bash "$here/../leashed.sh" "$environment/bin/python" -m moto.server -H 127.0.0.1 -p "$2" ;;
*)
    echo "usage: s3.sh install | serve PORT" >&2
    exit 2
    ;;
esac
