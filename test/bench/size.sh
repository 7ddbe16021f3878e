#!/usr/bin/env bash
#
# size.sh
#     What an event takes on disk, beside its payload: in the ledger, and with
#     all that is made of it.
#
# Usage: test/bench/size.sh [EVENTS [SUBSCRIPTIONS]]
#     20000 events of 5000 subscriptions by default.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
bench_copy test/bench/size.sh "$@"

events=${1:-20000}
subscriptions=${2:-5000}

bench_server
build_deliver
python3 test/bench/events.py make "$SP_WORK/events" "$events" "$subscriptions"
python3 test/bench/events.py sign "$SP_WORK/events" whsec_bench 0 "$events" "$delivery"
sql -c 'CREATE EXTENSION stripe_portal' -c 'SELECT FROM stripe_portal.tend_ledger()'
# shellcheck disable=SC2016  # parameters of the statement
deliver postgres 1 1000 "SELECT CASE WHEN bool_and(outcome = 'applied') THEN 'ok' ELSE 'unexpected' END FROM stripe_receive_webhooks(\$1, \$2)" >/dev/null
sql -c 'VACUUM FULL' -c 'ANALYZE'

# Bytes of each event: its payload, in the ledger, and in all tables of the extension.
read -r payload ledger all < <(sql -F ' ' <<END
SELECT (SELECT round(avg(octet_length(payload::text))) FROM stripe_portal.event),
       sum(pg_total_relation_size(oid)) FILTER (WHERE relispartition) / $events,
       sum(pg_total_relation_size(oid)) / $events
FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind IN ('r', 'm');
END
)
ratio() {
    awk -v a="$1" -v b="$payload" 'BEGIN { printf "%.2f\n", a / b }'
}

{
    row_at_most 'size of an event in the ledger, indexes included' "${ledger%.*}" bytes "$(ratio "$ledger")" 'its payload' 0.35
    row 'size of an event with state and history' "${all%.*}" bytes "$(ratio "$all")" 'its payload'
    row 'size of its payload' "$payload" bytes
    say "- $events events of $subscriptions subscriptions, in tables without holes; payloads as Stripe writes them, each of which is compressed by itself (lz4)."
} >"$SP_WORK/summary"
