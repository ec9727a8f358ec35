# shellcheck shell=bash
# Where what the tests download is kept: outside the checkout, one folder per pinned version, complete or absent.
# Sourced by the scripts beside it.

components="${XDG_CACHE_HOME:-$HOME/.cache}/rondel/components"

# cached NAME FILE COMMAND…: prints the folder for NAME as the pins in FILE say. If it is not there yet, runs COMMAND
# with a new folder as its last argument and puts that in place in one step; two callers at once wait for each other.
cached() {
    local name=$1 pins=$2
    shift 2
    local folder
    folder="$components/$name-$(cksum <"$pins" | cut -d' ' -f1)"
    if [ ! -d "$folder" ]; then
        mkdir -p "$components"
        (
            flock 9
            if [ ! -d "$folder" ]; then
                rm -rf "$folder.part"
                mkdir "$folder.part"
                # Explicit ends: `set -e` does not reach into a command substitution.
                "$@" "$folder.part" >&2 || exit 1
                mv "$folder.part" "$folder"
            fi
        ) 9>"$folder.lock" || return 1
    fi
    printf '%s\n' "$folder"
}
