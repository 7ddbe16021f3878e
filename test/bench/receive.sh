#!/usr/bin/env bash
#
# receive.sh
#     How fast webhooks are verified, stored and applied, beside what else does
#     some of that: @supabase/stripe-sync-engine and stripe-node, plpgsql with
#     pgcrypto, a bare INSERT, and the least that a C function can do.
#
# Usage: test/bench/receive.sh [EVENTS [SUBSCRIPTIONS]]
#     20000 events of 5000 subscriptions by default.  Each round has its part of
#     them, the same for all variants.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
bench_copy test/bench/receive.sh "$@"

events=${1:-20000}
subscriptions=${2:-5000}
slice=$((events / rounds))
batch=1000
secret=whsec_bench

bench_server
python3 test/bench/events.py make "$SP_WORK/events" "$events" "$subscriptions"
build_deliver
# shellcheck disable=SC2046  # flags
gcc -O2 -shared -fPIC -I"$("$PG_CONFIG" --includedir-server)" $(pkg-config --cflags libcrypto) \
    -o "$SP_WORK/minimal.so" test/bench/minimal.c $(pkg-config --libs libcrypto)
mkdir "$SP_WORK/npm"
cp test/bench/package.json test/bench/package-lock.json test/bench/peer.js "$SP_WORK/npm"
(cd "$SP_WORK/npm" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier \
    --loglevel=error --cache "$SP_WORK/npm/cache" >"$SP_WORK/log/npm.log" 2>&1)

peer() {
    (cd "$SP_WORK/npm" && node peer.js "$@")
}

fresh_databases() {
    local db
    for db in receive bulk bare sync; do
        dropdb --if-exists "$db" 2>/dev/null
        createdb "$db"
    done
    for db in receive bulk; do
        sql -d "$db" -c 'CREATE EXTENSION stripe_portal' -c 'SELECT FROM stripe_portal.tend_ledger()'
    done
    sql -d bare -c 'CREATE TABLE pglz (payload jsonb)' -c 'CREATE TABLE lz4 (payload jsonb COMPRESSION lz4)'
    peer migrate "postgres://postgres@/sync?host=$PGHOST" >"$SP_WORK/log/migrate.log" 2>&1
}

# Whatever else is answered is a failure.
outcome_is() {
    printf "SELECT CASE WHEN outcome = '%s' THEN 'ok' ELSE 'unexpected' END FROM stripe_receive_webhook(\$1, \$2)" "$1"
}
all_applied="SELECT CASE WHEN bool_and(outcome = 'applied') THEN 'ok' ELSE 'unexpected' END FROM stripe_receive_webhooks(\$1, \$2)"

for clients in 1 4; do
    fresh_databases
    for ((round = 0; round < rounds; round++)); do
        python3 test/bench/events.py sign "$SP_WORK/events" "$secret" $((round * slice)) "$slice" "$delivery"
        took "receive.$clients" deliver receive "$clients" 0 "$(outcome_is applied)"
        if ((clients == 1)); then
            took bulk deliver bulk 1 "$batch" "$all_applied"
        fi
        # shellcheck disable=SC2016  # a parameter of the statement
        took "insert.$clients" deliver bare "$clients" 0 'INSERT INTO pglz VALUES ($1)'
        took "sync.$clients" peer receive "postgres://postgres@/sync?host=$PGHOST" "$delivery" "$secret" "$clients"
        # shellcheck disable=SC2016
        took "lz4.$clients" deliver bare "$clients" 0 'INSERT INTO lz4 VALUES ($1)'
        took "duplicate.$clients" deliver receive "$clients" 0 "$(outcome_is duplicate)"
    done
done

createdb verify
# one backend each
sql -d verify -c 'ALTER DATABASE verify SET max_parallel_workers_per_gather = 0'
sql -d verify <<EOF
CREATE EXTENSION stripe_portal;
CREATE EXTENSION pgcrypto;
-- As it came, in the row: to take a payload out of TOAST costs all alike.
CREATE TABLE delivery (payload text, sig text);
ALTER TABLE delivery ALTER COLUMN payload SET STORAGE PLAIN;

CREATE FUNCTION minimal_verify(payload text, sig text, secret text) RETURNS boolean
    LANGUAGE c STABLE STRICT AS '$SP_WORK/minimal', 'minimal_verify';

-- Compares under a key of its own, so that time tells nothing.
CREATE FUNCTION plpgsql_verify(payload text, sig text, secret text) RETURNS boolean LANGUAGE plpgsql STABLE AS \$\$
DECLARE
    at CONSTANT text := substring(sig FROM 't=([0-9]+)');
    told CONSTANT text := substring(sig FROM 'v1=([0-9a-f]{64})');
    blind CONSTANT bytea := '\\x5be0cd19137e2179a54ff53a1f83d9ab';
BEGIN
    RETURN coalesce(abs(extract(epoch FROM now()) - at::bigint) <= 300
        AND hmac(hmac(convert_to(at || '.' || payload, 'UTF8'), convert_to(secret, 'UTF8'), 'sha256'), blind, 'sha256')
          = hmac(decode(told, 'hex'), blind, 'sha256'), false);
END
\$\$;
EOF
for ((round = 0; round < rounds; round++)); do
    python3 test/bench/events.py sign "$SP_WORK/events" "$secret" 0 "$events" "$delivery"
    sql -d verify -c 'TRUNCATE delivery'
    # shellcheck disable=SC2016  # parameters of the statement
    deliver verify 1 100 'INSERT INTO delivery SELECT * FROM unnest($1::text[], $2::text[])' >/dev/null
    sql_took verify verify 'SELECT count(*) FROM delivery WHERE stripe_verify_webhook(payload, sig)' "$events"
    sql_took minimal verify "SELECT count(*) FROM delivery WHERE minimal_verify(payload, sig, '$secret')" "$events"
    sql_took plpgsql verify "SELECT count(*) FROM delivery WHERE plpgsql_verify(payload, sig, '$secret')" "$events"
    took node peer verify "$delivery" "$secret"
done

{
    row 'verify: stripe_verify_webhook' "$(rate verify "$events")" '1/s' "$(times verify plpgsql)" 'plpgsql' 2
    row 'verify: stripe_verify_webhook' "$(rate verify "$events")" '1/s' "$(times verify minimal)" 'minimal C' 0.95
    row 'verify: a minimal C function' "$(rate minimal "$events")" '1/s'
    row 'verify: plpgsql with pgcrypto' "$(rate plpgsql "$events")" '1/s'
    row 'verify: stripe-node constructEvent, outside the server' "$(rate node "$events")" '1/s'
    row "receive, 1 client: stripe_receive_webhooks, $batch at once" "$(rate bulk "$slice")" '1/s' \
        "$(times bulk sync.1)" 'sync-engine' 10
    row "receive, 1 client: stripe_receive_webhooks, $batch at once" "$(rate bulk "$slice")" '1/s' \
        "$(times bulk receive.1)" 'one by one' 2.5
    for clients in 1 4; do
        with="$clients client$( ((clients == 1)) || echo s)"
        row "receive, $with: stripe_receive_webhook" "$(rate "receive.$clients" "$slice")" '1/s' \
            "$(times "receive.$clients" "sync.$clients")" 'sync-engine' 5
        row "receive, $with: stripe_receive_webhook" "$(rate "receive.$clients" "$slice")" '1/s' \
            "$(times "receive.$clients" "insert.$clients")" 'bare INSERT' 1
        row "receive, $with: a duplicate" "$(rate "duplicate.$clients" "$slice")" '1/s' \
            "$(times "duplicate.$clients" "receive.$clients")" 'a new event' 2
        row "receive, $with: bare INSERT of jsonb" "$(rate "insert.$clients" "$slice")" '1/s'
        row "receive, $with: bare INSERT of jsonb, lz4" "$(rate "lz4.$clients" "$slice")" '1/s'
        row "receive, $with: @supabase/stripe-sync-engine" "$(rate "sync.$clients" "$slice")" '1/s'
    done
    cat <<'EOF'
- Events: 5.9 KB on average, written as Stripe does, of 5,000 subscriptions that are created, changed and mostly deleted.
  One event is one transaction; with more at once, all of those are.
- Verifying is the SHA-256 of the payload, which all share; payloads lie in their rows, so none is taken out of TOAST.
- stripe-sync-engine upserts the subscription and its items, in its own schema, and keeps no event.
- A bare INSERT is the way to the server and back, turning the payload into jsonb, compressing it, and the commit. Receiving does
  not compress as hard (lz4), but beyond that looks for the event, and writes the event's row with three indexes, the subscription's
  row, a row of its history with up to seven, and the row before that, with what hangs on it (cancellations, win-back offers).
  The executor's start for each of these statements is most of its time in the server; one that did all of them at once
  (as the many at once do) costs less for each event.
- A duplicate is the way there and back, verifying, reading the payload, and one look into its partition.
EOF
} >"$SP_WORK/summary"
