#!/usr/bin/env bash
#
# demo.sh
#     Shows what stripe_portal is for, on a throw-away PostgreSQL and a
#     stand-in for Stripe: nothing leaves this machine, no account is needed.
#
# Usage: test/demo.sh [--keep]
#     --keep  leave the server, the stand-in and the web back end running, and
#             say how to connect and how to stop them
#
# Every command shown is run, and its output is checked: the demo fails when
# a step does not give what it claims.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

case ${1:-} in
    '' | --keep) ;;
    *) die "usage: test/demo.sh [--keep]" ;;
esac

if [[ -z ${SP_WORK:-} ]]; then
    install_packages "${RUN_PACKAGES[@]}"
fi
run_in_copy test/demo.sh "$@"


# ---------------------------------------------------------------------------
# Telling and checking
# ---------------------------------------------------------------------------

step() {
    printf '\n== %s\n\n' "$1"
}

explain() {
    fold -s -w 78 <<<"$*" | sed 's/ *$//'
    say
}

# sql ROLE STATEMENT
#     Shows the statement and what psql makes of it, and keeps that in $result.
sql() {
    printf '%s=> %s\n' "$1" "${2//$'\n'/$'\n'      }"
    result=$(psql -X -q -U "$1" -P footer=off <<<"$2" 2>&1)
    result=${result//psql:<stdin>:+([0-9]): /}
    printf '%s\n\n' "$result"
}

# quiet STATEMENT
#     Prints the bare result of a statement that is not worth showing.
quiet() {
    psql -X -q -At -v ON_ERROR_STOP=1 <<<"$1"
}

# expect PATTERN
#     The demo stops here unless a line of the last result matches.
expect() {
    grep -Eq -- "$1" <<<"$result" || die "this is not what was promised: no line matches \"$1\""
}

# wait_for CONDITION
#     A webhook takes a moment: gives it ten seconds.
wait_for() {
    local i
    for ((i = 0; i < 100; i++)); do
        if [[ $(quiet "SELECT $1") == t ]]; then
            return 0
        fi
        sleep 0.1
    done
    die "this did not happen within ten seconds: $1"
}

# stripe METHOD PATH [PARAMS]
#     A call that somebody else makes: the subscriber, or Stripe itself.
stripe() {
    quiet "SELECT stripe_api('$1', '$2', '${3:-{\}}') IS NOT NULL" >/dev/null
}

# ---------------------------------------------------------------------------
# The stage: PostgreSQL with the extension, the stand-in, a web back end
# ---------------------------------------------------------------------------

# The stand-in and the web back end, for as long as the server runs: started
# in a session of their own so that --keep can leave all three behind.
# shellcheck disable=SC2016  # expanded by the inner shell
start_stand_in() {
    setsid test/with_stripe bash -c '
        printf "%s\n" "$PGOPTIONS" >"$0/pgoptions"
        PGOPTIONS="" PGUSER=gateway python3 test/gateway.py >"$0/gateway.url" &
        tail --pid="$1" -f /dev/null
        kill $!' "$SP_WORK" "$(head -n 1 "$PGHOST/../data/postmaster.pid")" \
        >"$SP_WORK/log/stand-in.log" 2>&1 &
    for ((i = 0; i < 100; i++)); do
        if [[ -s $SP_WORK/gateway.url ]]; then
            return 0
        fi
        sleep 0.1
    done
    die "the stand-in does not start: $(<"$SP_WORK/log/stand-in.log")"
}

prepare() {
    local word

    say "Building the extension, starting PostgreSQL $PG_MAJOR and the stand-in for Stripe ..."
    private_server "$SP_WORK/pg"
    if ! { make -s clean && make -s install; } >"$SP_WORK/log/build.log" 2>&1; then
        die "the build fails: $(tail -n 20 "$SP_WORK/log/build.log")"
    fi
    start_server "$SP_WORK/server"
    start_stand_in

    # What tests set for one session, a real server sets for a database.  Keys
    # are given by the files that hold them.
    for word in $(<"$SP_WORK/pgoptions"); do
        case $word in
            stripe_portal.*=*) quiet "ALTER DATABASE postgres SET ${word%%=*} = '${word#*=}'" ;;
        esac
    done
}

