#!/usr/bin/env bash
#
# backfill.sh
#     How fast objects that Stripe lists are applied when Stripe answers at once.
#
# Usage: test/bench/backfill.sh [SUBSCRIPTIONS]
#     Pages of 100 subscriptions, 10000 by default, each page in a transaction
#     of its own as stripe_sync writes them.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
bench_copy test/bench/backfill.sh "$@"

subscriptions=${1:-10000}

bench_server
python3 - "$subscriptions" >"$SP_WORK/objects" <<'END'
import json
import random
import sys

sys.path.insert(0, 'test/bench')
from events import subscription

rng = random.Random(1)
for number in range(int(sys.argv[1])):
    print(json.dumps(subscription(number, 1780000000 + number * 100, rng)).replace('\\', '\\\\'))
END

sql <<SQL
CREATE EXTENSION stripe_portal;
CREATE TABLE page (n serial, body json);
CREATE TEMP TABLE line (n serial, object json);
\copy line (object) FROM '$SP_WORK/objects'
INSERT INTO page (body) SELECT json_build_object('data', json_agg(object ORDER BY n)) FROM line GROUP BY (n - 1) / 100 ORDER BY (n - 1) / 100;
CREATE PROCEDURE backfill() LANGUAGE plpgsql AS \$\$
DECLARE
    page record;
BEGIN
    FOR page IN SELECT body FROM page ORDER BY n LOOP
        ASSERT (SELECT failed = 0 FROM stripe_portal.sync_apply((
            jsonb_populate_record(NULL::stripe_portal.sync_cursor, '{"object": "subscription", "livemode": true, "account": ""}'),
            200, page.body, now(), NULL)::stripe_portal.sync_page));
        COMMIT;
    END LOOP;
END
\$\$;
SQL

empty='TRUNCATE stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.subscriber_change, stripe_portal.price, stripe_portal.product'
for ((round = 0; round < rounds; round++)); do
    sql -c "$empty"
    sql_took backfill postgres 'CALL backfill()'
    [[ $(sql -c 'SELECT count(*) FROM stripe_portal.subscription') == "$subscriptions" ]] || die 'not all were applied'
done

own_memory
{
    row 'backfill: subscriptions applied, 100 to a commit' "$(rate backfill "$subscriptions")" '1/s' \
        "$(rate backfill "$subscriptions" | awk '{ printf "%.2f\n", $1 / 10000 }')" "what Stripe's rate limit allows" 1
    sql -c "$empty"
    memory_row "backfill of $subscriptions subscriptions" 'CALL backfill()'
} >"$SP_WORK/summary"
