#!/usr/bin/env bash
# A real Apache Kafka for the tests: one node, KRaft, on loopback, from its published jars.
#
#   broker.sh install                      downloads the jars, if they are not in the cache yet
#   broker.sh serve FOLDER PORT CONTROLLER runs a broker whose data lie in FOLDER (formatted if new). Prints "ready" when
#                                          it answers. Stops at the line "stop", keeping the data, or when standard
#                                          input ends, removing them: so nothing outlives its parent
#   broker.sh java FILE.java ARGUMENTS…    runs a single-file Java program with the broker's jars
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../cache.sh
. "$here/../cache.sh"

download() {
    mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$1" -DincludeScope=runtime
}

jars=$(cached kafka "$here/pom.xml" download)
# Short-lived and small: the first compiler tier and the plain collector start fastest on few cores.
java=(java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$jars/*")

configuration() {
    sed -e "s|@FOLDER@|$1|g" -e "s|@PORT@|$2|g" -e "s|@CONTROLLER@|$3|g" "$here/server.properties"
}

serve() {
    local folder=$1 port=$2 controller=$3 broker
    mkdir -p "$folder"
    configuration "$folder" "$port" "$controller" >"$folder/server.properties"
    if [ ! -d "$folder/log" ]; then
        # Any 16 bytes in base64 are a cluster id; a fixed one saves the start of a Java machine.
        "${java[@]}" kafka.tools.StorageTool format --standalone -t cm9uZGVsLXRlc3RzLWthZg \
            -c "$folder/server.properties" >"$folder/format.out" 2>&1 || {
            tail -n 20 "$folder/format.out" >&2
            return 1
        }
    fi
    "${java[@]}" -Xms64m -Xmx384m kafka.Kafka "$folder/server.properties" >>"$folder/broker.out" 2>&1 </dev/null &
    broker=$!
    # shellcheck disable=SC2064
    trap "kill -KILL $broker 2>/dev/null || true" EXIT
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        if ! kill -0 "$broker" 2>/dev/null; then
            tail -n 20 "$folder/broker.out" >&2
            return 1
        fi
        sleep 0.1
    done
    echo ready
    local word=
    read -r word || true
    kill -TERM "$broker" 2>/dev/null || true
    # A parent that was killed waits for nothing: don't linger on an orderly shutdown.
    for _ in $(seq 50); do
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.1
    done
    [ "$word" = stop ] || rm -rf "$folder"
}

case "${1:-}" in
install) printf '%s\n' "$jars" ;;
serve) serve "$2" "$3" "$4" ;;
java)
    shift
    exec "${java[@]}" "$@"
    ;;
*)
    echo "usage: broker.sh install | serve FOLDER PORT CONTROLLER | java FILE.java ARGUMENTS…" >&2
    exit 2
    ;;
esac
