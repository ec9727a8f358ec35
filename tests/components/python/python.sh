#!/usr/bin/env bash
# Python with the packages of requirements.txt, in an environment of its own in the cache.
#
#   python.sh install                 makes the environment, if it is not there yet
#   python.sh FILE.py ARGUMENTS…      runs a program in it
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cache.sh
. "$here/../cache.sh"

make_environment() {
    python3 -m venv "$1" &&
        "$1/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
}

environment=$(cached python "$here/requirements.txt" make_environment)
case "${1:-}" in
install) printf '%s\n' "$environment" ;;
*) exec "$environment/bin/python" "$@" ;;
esac
