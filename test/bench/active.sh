#!/usr/bin/env bash
#
# active.sh
#     What the active-subscriber rule costs for each row of a query, beside
#     the plain index probe that an application would write itself.
#
# Usage: test/bench/active.sh [SUBSCRIPTIONS [ROWS]]
#     1000000 subscriptions and a query over 200000 rows by default.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
bench_copy test/bench/active.sh "$@"

subscriptions=${1:-1000000}
rows=${2:-200000}

bench_server -c shared_buffers=2GB

# Nine of ten are active; a table of the application's, in no order, to ask about.
psql -X -q -v ON_ERROR_STOP=1 -v subscriptions="$subscriptions" -v rows="$rows" >/dev/null <<'END'
CREATE EXTENSION stripe_portal;
INSERT INTO stripe_portal.customer (id, livemode, event, event_created)
SELECT 'cus_' || n, true, '', now() FROM generate_series(1, :subscriptions) AS n;
INSERT INTO stripe_portal.subscription (id, livemode, customer, status, items, event, event_created)
SELECT 'sub_' || n, true, 'cus_' || n, CASE WHEN n % 10 = 0 THEN 'canceled' ELSE 'active' END,
       '[{"id": "si_1", "price": "price_1", "product": "prod_1", "quantity": 1}]', '', now()
FROM generate_series(1, :subscriptions) AS n;
CREATE TABLE document (customer text);
INSERT INTO document SELECT 'cus_' || n FROM (
    SELECT 1 + (random() * (:subscriptions - 1))::integer AS n FROM generate_series(1, :rows)) AS r;
VACUUM ANALYZE;
END

# The probe is asked for each row, as the function is: LIMIT keeps it from being made a join.
declare -A query=(
    [probe]="SELECT count(*) FROM document AS d WHERE (SELECT true FROM stripe_portal.subscription AS s
        WHERE s.customer = d.customer AND s.livemode AND s.account = '' AND s.status IN ('active', 'trialing') LIMIT 1)"
    [stripe_is_active]="SELECT count(*) FROM document AS d WHERE stripe_is_active(d.customer)"
    [join]="SELECT count(*) FROM document AS d WHERE d.customer IN (SELECT a.customer FROM stripe_portal.access AS a
        WHERE a.flow = 'access' AND a.livemode AND a.account = '' AND a.problem IS NULL)"
)
expected=

for ((round = 0; round <= rounds; round++)); do
    for way in probe stripe_is_active join; do
        # one process at a time, or the number of workers is what is measured
        answer=$(sql <<END
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SELECT clock_timestamp() AS began \gset
${query[$way]};
SELECT extract(epoch FROM clock_timestamp() - :'began');
END
)
        [[ ${expected:=${answer%%$'\n'*}} == "${answer%%$'\n'*}" ]] || die "$way: ${answer%%$'\n'*} rows, not $expected"
        # the first round fills the caches
        ((round == 0)) || took "$way" tail -n 1 <<<"$answer"
    done
done

own_memory
{
    row 'active check: stripe_is_active, for each row' "$(rate stripe_is_active "$rows")" '1/s' \
        "$(times stripe_is_active probe)" 'an index probe' 1
    row 'active check: the view stripe_portal.access, as a set' "$(rate join "$rows")" '1/s' \
        "$(times join probe)" 'an index probe'
    row 'active check: a plain index probe, for each row' "$(rate probe "$rows")" '1/s'
    memory_row "stripe_is_active, for $rows rows" 'SET max_parallel_workers_per_gather = 0' "${query[stripe_is_active]}"
} >"$SP_WORK/summary"
