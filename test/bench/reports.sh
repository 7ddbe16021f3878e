#!/usr/bin/env bash
#
# reports.sh
#     What each report costs on the history of SUBSCRIPTIONS, five rows each,
#     against a sequential scan of those rows: in processor time of one process,
#     which is what it takes on a machine that has nothing else to do.  The same
#     at ten times as many, in one round.  And what an event costs more because
#     subscriber_change is kept for the reports.
#
# Usage: test/bench/reports.sh [SUBSCRIPTIONS [ROUNDS]]
#     100000 subscriptions and 5 rounds by default.  The rounds take turns.
#     Every call is made by a new session: warm are the server's buffers.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh

subscriptions=${1:-100000}
rounds=${2:-5}

if [[ -z ${SP_WORK:-} ]]; then
    install_packages "${RUN_PACKAGES[@]}"
fi
run_in_copy test/bench/reports.sh "$@"

private_server "$SP_WORK/pg"
make -s install >"$SP_WORK/log/build.log" 2>&1
start_server "$SP_WORK/server"

# A server that was given a quarter of a small machine; all else as it comes.
sql -c "ALTER SYSTEM SET shared_buffers = '2GB'" -c "ALTER SYSTEM SET work_mem = '64MB'" -c "ALTER SYSTEM SET max_wal_size = '8GB'"
pg_ctl -D "$SP_WORK/server/data" -w -s -l "$SP_WORK/log/server.log" restart

# fill DATABASE SUBSCRIPTIONS
fill() {
    export PGDATABASE=$1
    createdb "$1"
    sql -c 'CREATE EXTENSION stripe_portal'
    sql -v n="$2" -f test/bench/reports.sql
    sql -c 'VACUUM ANALYZE' -c CHECKPOINT
}

# Without a period, a report is about the last twelve months and this one.
names=(scan mrr_bridge churn_by_reason churn_by_plan churn_by_country churn_rate retention churn_leak cancel_comments
    uncancel_rate at_risk decline_report decline_recovery decline_wasted decline_curable winback_lift churn_report)
declare -A query=(
    [scan]='SET enable_indexonlyscan = off; SELECT count(*) FROM stripe_portal.subscription_change WHERE mrr >= 0'
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

# What a statement takes, in ms.
processor() {
    sql >"$SP_WORK/took" <<END
SET max_parallel_workers_per_gather = 0;
SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1) AS began \gset
\o /dev/null
$1;
\o
SELECT (split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::numeric - :began) / 1e6;
END
    cat "$SP_WORK/took"
}

# measure ROUNDS SUFFIX
#     One round before those that count, whose times go into files NAME.SUFFIX.
measure() {
    local round name
    for ((round = 0; round <= $1; round++)); do
        for name in "${names[@]}"; do
            processor "${query[$name]}" >"$SP_WORK/time"
            if ((round > 0)); then
                cat "$SP_WORK/time" >>"$SP_WORK/$name.$2"
            fi
        done
    done
}

fill ten_times $((10 * subscriptions))
measure 1 ten
fill once "$subscriptions"
measure "$rounds" one

# Events that move the MRR, with and without the trigger.
for ((round = 0; round <= rounds; round++)); do
    for ((without = 0; without < 2; without++)); do
        place=$((2 * round + without))
        name=$( ((without)) && echo without_reports || echo event)
        sql -c "ALTER TABLE stripe_portal.subscription_change $( ((without)) && echo DISABLE || echo ENABLE) TRIGGER subscriber_follow"
        took=$(processor "SELECT count(stripe_portal.apply_event(e)) FROM dearer($place, date_trunc('second', now())) AS e")
        if ((round > 0)); then
            sql -c "SELECT 1000 * $took / (SELECT count(*) FROM dearer($place, now()))" >>"$SP_WORK/$name"
        fi
    done
done
sql -c 'ALTER TABLE stripe_portal.subscription_change ENABLE TRIGGER subscriber_follow'

own_memory
# The goal is a second at 1 M subscriptions, and the time grows with their number.
{
    scan=$(median <"$SP_WORK/scan.one")
    goal=$((subscriptions / 1000))
    for name in "${names[@]}"; do
        sql -c "SELECT format('report %s | %s | ms | %s × a scan of the history | %s | %s', '$name', round(took), round(took / $scan, 2),
            CASE WHEN '$name' <> 'scan' THEN '≤ $goal ms' END, CASE WHEN '$name' <> 'scan' THEN CASE WHEN took <= $goal THEN 'yes' ELSE 'no' END END)
            FROM (VALUES ($(median <"$SP_WORK/$name.one")::numeric)) AS t (took)"
    done
    for name in "${names[@]}"; do
        took=$(median <"$SP_WORK/$name.ten")
        row "report $name, at ten times as many" "${took%.*}" ms "$(awk -v a="$took" -v b="$(median <"$SP_WORK/$name.one")" 'BEGIN { printf "%.1f", a / b }')" "that at $subscriptions"
    done
    memory_row 'the page of reports' "${query[churn_report]}"
    sql -c "SELECT format('event that moves the MRR | %s | µs | %s × the same without subscriber_change |  | ', round($(median <"$SP_WORK/event")),
        round($(median <"$SP_WORK/event")::numeric / $(median <"$SP_WORK/without_reports"), 2))"
    sql -c "SELECT format('- Processor time of one process, at %s subscriptions: %s rows of history in %s, with their indexes %s; subscriber_change %s; %s cancellations, %s failed attempts.', $subscriptions,
        (SELECT count(*) FROM stripe_portal.subscription_change), pg_size_pretty(pg_table_size('stripe_portal.subscription_change')),
        pg_size_pretty(pg_total_relation_size('stripe_portal.subscription_change')), pg_size_pretty(pg_total_relation_size('stripe_portal.subscriber_change')),
        (SELECT count(*) FROM stripe_portal.cancellation), (SELECT count(*) FROM stripe_portal.payment_attempt) / 2)"
    say "- The goal is a second at 1 M subscriptions, so $goal ms at as many as here: what a report reads grows with them."
} >"$SP_WORK/summary"
