#!/usr/bin/env bash
#
# memory.sh
#     What a backend holds of memory while it verifies and receives, and
#     whether it still holds that after many calls.
#
# Usage: test/bench/memory.sh [CALLS]
#     100000 calls of each by default.

# shellcheck disable=SC2016  # what statements have for parameters

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
bench_copy test/bench/memory.sh "$@"

calls=${1:-100000}
events=20000
batch=1000

# Nothing of this waits for a disk.
bench_server
export PGOPTIONS='-c synchronous_commit=off -c stripe_portal.tolerance=86400'
build_deliver
python3 test/bench/events.py make "$SP_WORK/events" "$events"
python3 test/bench/events.py sign "$SP_WORK/events" whsec_bench 0 "$events" "$delivery"
sql <<'EOF'
CREATE EXTENSION stripe_portal;
SELECT FROM stripe_portal.tend_ledger();
CREATE TABLE delivery (n integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text, sig text);
EOF
own_memory
sql <<'EOF'
-- Says the peak, and what is held after a half and after all.
CREATE PROCEDURE many(calls integer, step integer, statement text) LANGUAGE plpgsql AS $$
DECLARE
    events CONSTANT integer := (SELECT count(*) FROM delivery);
    a_half numeric;
    d record;
BEGIN
    FOR i IN 1 .. calls / step LOOP
        EXECUTE statement USING (i * step - step) % events + 1, (i * step - step) % events + step;
        COMMIT;
        IF i = calls / step / 2 THEN
            a_half := (own()).now;
        END IF;
    END LOOP;
    SELECT * INTO d FROM own();
    RAISE NOTICE 'took % % %', d.peak, a_half, d.now;
END
$$;
EOF
deliver postgres 1 100 'INSERT INTO delivery (payload, sig) SELECT * FROM unnest($1::text[], $2::text[])' >/dev/null

# many NAME STEP STATEMENT
many() {
    local answer peak half all
    answer=$(sql -c "CALL many($calls, $2, \$\$$3\$\$)" 2>&1) || die "$answer"
    read -r peak half all <<<"${answer##*took }"
    row "memory, $1: peak" "$peak" MB
    row "memory, $1: after $calls calls" "$all" MB "$(awk -v h="$half" -v a="$all" 'BEGIN { printf "%.2f", h / a }')" 'half of them' 0.95
}

{
    many stripe_verify_webhook 1 'SELECT stripe_verify_webhook(payload, sig) FROM delivery WHERE n = $1'
    many 'stripe_receive_webhook' 1 'SELECT stripe_receive_webhook(payload, sig) FROM delivery WHERE n = $1'
    sql -c 'TRUNCATE stripe_portal.event'
    many "stripe_receive_webhooks, $batch at once" "$batch" 'SELECT count(*) FROM (SELECT array_agg(payload), array_agg(sig)
        FROM delivery WHERE n BETWEEN $1 AND $2) AS d (payloads, sigs), stripe_receive_webhooks(payloads, sigs)'
} >"$SP_WORK/summary"
