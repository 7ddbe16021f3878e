#!/usr/bin/env bash
#
# ledger.sh
#     Whether receiving stays as fast as the ledger grows: the rate at an
#     empty ledger against that at one with EVENTS events, and how long a
#     month takes to move out of event_default.
#
# Usage: test/bench/ledger.sh [EVENTS [SECONDS]]
#     20 million events and rounds of 4 seconds for each by default.  Of more than
#     300000, the rest is stored with short payloads: what receiving could
#     stumble over is the keys, not what they lead to.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
bench_copy test/bench/ledger.sh "$@"

events=${1:-20000000}
seconds=${2:-4}

bench_server

for db in empty full; do
    createdb "$db"
    sql -d "$db" <<'EOF'
CREATE EXTENSION stripe_portal;
SELECT FROM stripe_portal.tend_ledger();

-- An event of a subscription in size, of an hour ago at most, for one of 100,000 customers.
CREATE FUNCTION event(n bigint) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object('id', 'evt_' || md5(n::text || random()::text), 'object', 'event', 'type', 'customer.updated',
        'created', extract(epoch FROM now())::bigint - n % 3600, 'livemode', false, 'data', jsonb_build_object('object',
        jsonb_build_object('object', 'customer', 'id', 'cus_' || n % 100000, 'metadata',
            (SELECT jsonb_object_agg('key_' || i, md5(random()::text || n)) FROM generate_series(1, 40) AS i))))::text
$$;
EOF
done

# The stored events are spread over a year, this month included.
sql -d full -v n="$((events < 300000 ? events : 300000))" <<'EOF'
INSERT INTO stripe_portal.event (id, livemode, type, created, object_id, payload, status, received_at)
SELECT e.payload ->> 'id', false, 'customer.updated', t.at, e.payload #>> '{data,object,id}', e.payload, 'applied', t.at
FROM generate_series(1, :n) AS n, LATERAL (SELECT now() - n * interval '1 year' / :n) AS t (at),
     LATERAL (SELECT event(n)::json) AS e (payload);
VACUUM ANALYZE stripe_portal.event;
EOF
while sql -d full -c '\timing on' -c 'SELECT partition, events FROM stripe_portal.tend_ledger() WHERE events > 0' |
      tee -a "$SP_WORK/moved" | grep '|' >/dev/null; do :; done
# The partitions are there now.
sql -d full -v n="$((events > 300000 ? events - 300000 : 0))" <<'EOF'
INSERT INTO stripe_portal.event (id, livemode, type, created, object_id, payload, status, received_at)
SELECT 'evt_' || md5(n::text), false, 'customer.updated', t.at, 'cus_' || n % 100000, '{}', 'applied', t.at
FROM generate_series(1, :n) AS n, LATERAL (SELECT now() - n * interval '1 year' / greatest(:n, 1)) AS t (at);
EOF
sql -d full -c 'VACUUM ANALYZE' -c CHECKPOINT

cat >"$SP_WORK/receive.sql" <<'EOF'
\set n random(1, 1000000000)
SELECT outcome FROM (SELECT event(:n) AS payload OFFSET 0) AS e, stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_bench'));
EOF

# The seconds that an event takes.
seconds_each() {
    pgbench -n -M prepared -T "$seconds" -f "$SP_WORK/receive.sql" "$1" 2>/dev/null |
        sed -n 's/^tps = \([0-9.]*\).*/\1/p' | awk '{ printf "%.9f\n", 1 / $1 }'
}

for ((round = 0; round < rounds; round++)); do
    for db in empty full; do
        sql -d empty -c 'TRUNCATE stripe_portal.event'
        sql -d "$db" -c 'TRUNCATE stripe_portal.customer'
        took "$db" seconds_each "$db"
    done
done

{
    say "moving out of event_default (events, then ms):"
    grep -E '\||^Time' "$SP_WORK/moved" | sed '$d' | sed 's/|/: /; s/^/    /'
    row "growth: receive at $events stored events, in $(sql -d full -c 'SELECT count(*) FROM stripe_portal.event_partitions()') partitions" \
        "$(rate full 1)" '1/s' "$(times full empty)" 'an empty ledger' 0.9
    row 'growth: receive at an empty ledger' "$(rate empty 1)" '1/s'
} >"$SP_WORK/summary"
