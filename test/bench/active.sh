#!/usr/bin/env bash
#
# active.sh
#     What the active-subscriber rule costs for each row of a query, beside
#     the plain index probe that an application would write itself.
#
# Usage: test/bench/active.sh [SUBSCRIPTIONS [ROWS]]
#     1000000 subscriptions, a query over 200000 rows, and 5 rounds by default.
#     The ways take turns, so that whatever else the machine does hits all
#     alike; ratios are those within a round.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh

subscriptions=${1:-1000000}
rows=${2:-200000}
rounds=5

if [[ -z ${SP_WORK:-} ]]; then
    install_packages "${RUN_PACKAGES[@]}"
fi
run_in_copy test/bench/active.sh "$@"

{
    private_server "$SP_WORK/pg"
    make -s install
    start_server "$SP_WORK/server"
} >"$SP_WORK/log/build.log" 2>&1

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

# A way that is asked for each row may not be made a join, so the comparison is fair.
declare -A query=(
    [probe]="SELECT count(*) FROM document AS d WHERE (SELECT true FROM stripe_portal.subscription AS s
        WHERE s.customer = d.customer AND s.livemode AND s.account = '' AND s.status IN ('active', 'trialing') LIMIT 1)"
    [stripe_is_active]="SELECT count(*) FROM document AS d WHERE stripe_is_active(d.customer)"
    [join]="SELECT count(*) FROM document AS d WHERE d.customer IN (SELECT a.customer FROM stripe_portal.access AS a
        WHERE a.flow = 'access' AND a.livemode AND a.account = '' AND a.problem IS NULL)"
)
ways=(probe stripe_is_active join)
expected=

for ((round = 0; round <= rounds; round++)); do
    for way in "${ways[@]}"; do
        # one worker would hide what a row costs
        answer=$(psql -X -q -At -v ON_ERROR_STOP=1 <<END
SET max_parallel_workers_per_gather = 0;
SET jit = off;
SELECT clock_timestamp() AS began \gset
${query[$way]};
SELECT extract(epoch FROM clock_timestamp() - :'began');
END
)
        [[ ${expected:=${answer%%$'\n'*}} == "${answer%%$'\n'*}" ]] || die "$way: ${answer%%$'\n'*} rows, not $expected"
        # the first round fills the caches
        ((round == 0)) || tail -n 1 <<<"$answer" >>"$SP_WORK/$way"
    done
done

python3 - "$SP_WORK" "$rows" "${ways[@]}" >"$SP_WORK/summary" <<'END'
import pathlib
import statistics
import sys

folder, rows, *ways = sys.argv[1:]
took = {way: [float(line) / int(rows) for line in pathlib.Path(folder, way).read_text().split()] for way in ways}
names = {'probe': 'plain index probe', 'stripe_is_active': 'stripe_is_active',
         'join': 'set-based, by the view stripe_portal.access'}
for way in ways:
    ratio = statistics.median(bare / own for bare, own in zip(took['probe'], took[way], strict=True))
    goal = ('1', 'yes' if ratio >= 1 else 'no') if way == 'stripe_is_active' else ('', '')
    print(f'active check: {names[way]} | {1 / statistics.median(took[way]):.0f} | rows per second | {ratio:.2f}'
          f' | {goal[0]} | {goal[1]}')
END
