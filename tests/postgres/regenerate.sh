#!/usr/bin/env bash
# Asks a real PostgreSQL for the value of each line of expressions.txt, and writes answers.txt: one line for each, the
# value as psql shows it (line ends as \n), NULL, or ERROR and the SQLSTATE.
#   PGHOST=127.0.0.1 PGPORT=5432 PGUSER=postgres tests/postgres/regenerate.sh
set -euo pipefail
cd "$(dirname "$0")"
export PGTZ=UTC PGDATESTYLE=ISO
grep -v -e '^#' -e '^$' expressions.txt | while IFS= read -r expression; do
  if answer=$(psql -XAtq -v VERBOSITY=sqlstate -v ON_ERROR_STOP=1 -P null=NULL -c "SELECT $expression" 2>/tmp/answer.$$); then
    printf '%s\n' "${answer//$'\n'/\\n}"
  else
    sed -n 's/^ERROR: *\([0-9A-Z]*\).*/ERROR \1/p' /tmp/answer.$$ | head -n 1
  fi
done >answers.txt
rm -f /tmp/answer.$$
