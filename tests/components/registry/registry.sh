#!/usr/bin/env bash
# A real schema registry for the tests: Apicurio in memory, on loopback, from its published archive.
#
#   registry.sh install     downloads the archive, if it is not in the cache yet
#   registry.sh serve PORT  runs it. Prints "ready" when it answers; stops when standard input ends, so that nothing
#                           outlives its parent
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cache.sh
. "$here/../cache.sh"

download() {
    mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy -DoutputDirectory="$1" &&
        tar -xzf "$1"/*.tar.gz -C "$1" && rm "$1"/*.tar.gz
}

folder=$(cached registry "$here/pom.xml" download)

serve() {
    local port=$1 log registry
    log=$(mktemp)
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx320m -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$port" \
        -jar "$folder"/apicurio-registry-app-*-runner.jar >"$log" 2>&1 </dev/null &
    registry=$!
    # shellcheck disable=SC2064
    trap "kill -KILL $registry 2>/dev/null || true; rm -f '$log'" EXIT
    until grep -q "Listening on" "$log"; do
        if ! kill -0 "$registry" 2>/dev/null; then
            tail -n 20 "$log" >&2
            return 1
        fi
        sleep 0.2
    done
    echo ready
    read -r _ || true
}

case "${1:-}" in
install) printf '%s\n' "$folder" ;;
serve) serve "$2" ;;
*)
    echo "usage: registry.sh install | serve PORT" >&2
    exit 2
    ;;
esac
