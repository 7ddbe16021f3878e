#!/usr/bin/env bash
#
# reference.sh
#     Prints REFERENCE.md as the extension's catalogue has it:
#     test/reference.sh > REFERENCE.md

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

if [[ -z ${SP_WORK:-} ]]; then
    install_packages "${RUN_PACKAGES[@]}" >&2
fi
run_in_copy test/reference.sh "$@"

{
    private_server "$SP_WORK/pg"
    make -s
    make -s install
    start_server "$SP_WORK/server"
} >"$SP_WORK/log/build.log" 2>&1
psql -X -q -At -v ON_ERROR_STOP=1 >"$SP_WORK/summary" <<'END'
\o /dev/null
CREATE EXTENSION stripe_portal;
\i test/reference.sql
\o
SELECT line FROM reference ORDER BY n;
END
