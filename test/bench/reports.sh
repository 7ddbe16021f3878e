#!/usr/bin/env bash
#
# reports.sh
#     How long each report takes on the history of SUBSCRIPTIONS, five rows
#     each, against a sequential scan that counts those rows: a machine that is
#     slow for one is slow for the other.
#
# Usage: test/bench/reports.sh [SUBSCRIPTIONS [ROUNDS]]
#     100000 subscriptions and 5 rounds by default.  The rounds take turns.
#     Every call is made by a new session: warm are the server's buffers.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh

subscriptions=${1:-100000}
rounds=${2:-5}

if [[ -z ${SP_WORK:-} ]]; then
    install_packages "${RUN_PACKAGES[@]}"
fi
run_in_copy test/bench/reports.sh "$@"

private_server "$SP_WORK/pg"
make -s install >"$SP_WORK/log/build.log" 2>&1
start_server "$SP_WORK/server"

sql() {
    psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# A server that was given a quarter of a small machine; all else as it comes.
sql -c "ALTER SYSTEM SET shared_buffers = '2GB'" -c "ALTER SYSTEM SET work_mem = '64MB'" -c "ALTER SYSTEM SET max_wal_size = '8GB'"
pg_ctl -D "$SP_WORK/server/data" -w -s -l "$SP_WORK/log/server.log" restart

sql -c 'CREATE EXTENSION stripe_portal'
sql -v n="$subscriptions" -f test/bench/reports.sql
sql -c 'VACUUM ANALYZE' -c CHECKPOINT

# Without a period, a report is about the last twelve months and this one.
names=(scan mrr_bridge churn_by_reason churn_by_plan churn_by_country churn_rate retention churn_leak cancel_comments
    uncancel_rate at_risk decline_report decline_recovery decline_wasted decline_curable winback_lift churn_report)
declare -A query=(
    [scan]='SET enable_indexonlyscan = off; SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM stripe_portal.subscription_change WHERE mrr >= 0'
    [mrr_bridge]="SELECT count(*) FROM stripe_mrr_bridge(livemode => true)"
    [churn_by_reason]="SELECT count(*) FROM stripe_churn('reason', livemode => true)"
    [churn_by_plan]="SELECT count(*) FROM stripe_churn('plan', livemode => true)"
    [churn_by_country]="SELECT count(*) FROM stripe_churn('country', livemode => true)"
    [churn_rate]="SELECT count(*) FROM stripe_churn_rate(livemode => true)"
    [retention]="SELECT count(*) FROM stripe_retention(livemode => true)"
    [churn_leak]="SELECT count(*) FROM stripe_churn_leak(livemode => true)"
    [cancel_comments]="SELECT count(*) FROM stripe_cancel_comments('budget -note', livemode => true)"
    [uncancel_rate]="SELECT count(*) FROM stripe_uncancel_rate(livemode => true)"
    [at_risk]="SELECT count(*) FROM stripe_at_risk(livemode => true)"
    [decline_report]="SELECT count(*) FROM stripe_decline_report(livemode => true)"
    [decline_recovery]="SELECT count(*) FROM stripe_decline_recovery(livemode => true)"
    [decline_wasted]="SELECT count(*) FROM stripe_decline_wasted(livemode => true)"
    [decline_curable]="SELECT count(*) FROM stripe_decline_curable(livemode => true)"
    [winback_lift]="SELECT count(*) FROM stripe_winback_lift('fifth', livemode => true)"
    [churn_report]="SELECT length(stripe_churn_report(livemode => true))"
)

# One round before those that count.
for ((round = 0; round <= rounds; round++)); do
    for name in "${names[@]}"; do
        sql -o /dev/null -c '\timing on' -c "${query[$name]}" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1 >"$SP_WORK/time"
        if ((round > 0)); then
            cat "$SP_WORK/time" >>"$SP_WORK/$name"
        fi
    done
done

median() {
    sort -n "$1" | sed -n "$((rounds / 2 + 1))p"
}

{
    scan=$(median "$SP_WORK/scan")
    sql -c "SELECT format('# %s subscriptions, %s changes of %s, %s cancellations, %s failed attempts; with its indexes the history is %s', $subscriptions,
        (SELECT count(*) FROM stripe_portal.subscription_change), pg_size_pretty(pg_table_size('stripe_portal.subscription_change')),
        (SELECT count(*) FROM stripe_portal.cancellation), (SELECT count(*) FROM stripe_portal.payment_attempt),
        pg_size_pretty(pg_total_relation_size('stripe_portal.subscription_change')))"
    say 'name | figure | unit | ratio | goal'
    for name in "${names[@]}"; do
        # of a report: how many scans of the history it takes
        sql -c "SELECT format('%s | %s | ms | %s | %s', '$name', round($(median "$SP_WORK/$name")), round($(median "$SP_WORK/$name")::numeric / $scan, 2),
            CASE '$name' WHEN 'scan' THEN 'the floor' ELSE '< 1000 ms at 1 M subscriptions' END)"
    done
} >"$SP_WORK/summary"
