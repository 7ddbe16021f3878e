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
# Every statement shown is run, and what comes out is checked: the demo fails
# when a step does not give what it claims.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

case ${1:-} in
    '' | --keep) ;;
    *) die "usage: test/demo.sh [--keep]" ;;
esac

if [[ -z ${SP_WORK:-} ]]; then
    install_packages "${RUN_PACKAGES[@]}" "${MAIL_PACKAGES[@]}"
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
    local prompt="$1=> "
    printf '%s%s\n' "$prompt" "${2//$'\n'/$'\n'${prompt//?/ }}"
    result=$(psql -X -U "$1" -P footer=off 2>&1 <<END
$2
\\if :ERROR
    \\echo 'SQLSTATE:' :SQLSTATE
\\endif
END
    ) || true                   # expect has the last word
    printf '%s\n\n' "$result"
}

# expect PATTERN
#     The demo stops here unless a line of the last result matches.
expect() {
    grep -Eq -- "$1" <<<"$result" || die "this is not what was promised: no line matches \"$1\""
}

# quiet STATEMENT
#     Prints the bare result of a statement that is not worth showing.
quiet() {
    psql -X -q -At -v ON_ERROR_STOP=1 <<<"$1"
}

# stripe PATH PARAMETERS
#     What others do: the team in Stripe's dashboard, the subscriber, Stripe's
#     billing engine.  Prints the id of what was made.
stripe() {
    quiet "SELECT stripe_api('POST', '/v1/$1', '$2') ->> 'id'"
}

# stand_in PATH PARAMETERS
#     The same through the calls that direct the stand-in.
stand_in() {
    stripe "test_helpers/stand_in/$1" "$2" >/dev/null
}

# ---------------------------------------------------------------------------
# The stage: PostgreSQL with the extension, the stand-in, a web back end
# ---------------------------------------------------------------------------

# The stand-in and the back end live as long as the server, in a session of
# their own, so that --keep can leave all three behind.
start_stand_in() {
    local i
    # shellcheck disable=SC2016  # for the inner shell to expand
    setsid test/with_stripe bash -c '
        unset PGOPTIONS
        declare -p "${!STRIPE_STAND_IN_@}" >"$0/stand_in.env"
        PGUSER=gateway python3 test/gateway.py >"$0/gateway.url" &
        tail -s 0.1 --pid="$1" -f /dev/null
        kill $!' "$SP_WORK" "$postmaster" >"$SP_WORK/log/stand_in.log" 2>&1 &
    for ((i = 0; i < 100; i++)); do
        if [[ -s $SP_WORK/gateway.url ]]; then
            return 0
        fi
        sleep 0.1
    done
    die "the stand-in does not start: $(<"$SP_WORK/log/stand_in.log")"
}

# Somewhere to send mail to, and who sends it; both until the story is told.
start_worker() {
    local address
    mkdir "$SP_WORK/mail"
    exec {mailbox}< <(exec /usr/bin/python3 test/mailbox.py "$SP_WORK/mail" 2>"$SP_WORK/log/mailbox.log")
    mail_server=$!
    read -r address <&"$mailbox" || die "the mail server does not start: $(<"$SP_WORK/log/mailbox.log")"
    PGUSER=mailer WINBACK_FROM='The shop <letters@shop.example.com>' WINBACK_SMTP=$address \
        /usr/bin/python3 examples/winback_worker.py >"$SP_WORK/log/worker.log" 2>&1 &
    worker=$!
}

# Prints the one mail that has come, when it has.
read_mail() {
    local i
    for ((i = 0; i < 100; i++)); do
        if [[ -s $SP_WORK/mail/0000 ]]; then
            cat "$SP_WORK/mail/0000"
            return 0
        fi
        sleep 0.1
    done
    die "no mail comes: $(<"$SP_WORK/log/worker.log")"
}

say "Building the extension, starting PostgreSQL $PG_MAJOR and a stand-in for Stripe ..."
private_server "$SP_WORK/pg"
if ! { make -s clean && make -s install; } >"$SP_WORK/log/build.log" 2>&1; then
    die "the build fails: $(tail -n 20 "$SP_WORK/log/build.log")"
fi
start_server "$SP_WORK/server"
postmaster=$(head -n 1 "$SP_WORK/server/data/postmaster.pid")
start_stand_in
# shellcheck source=/dev/null
. "$SP_WORK/stand_in.env"

# ---------------------------------------------------------------------------
# The play
# ---------------------------------------------------------------------------

step 'Set up'

explain 'Install the extension, and say where Stripe is and which files hold the' \
    'key and the webhook secret. With the real Stripe it takes only the two files.'
sql postgres "CREATE EXTENSION stripe_portal;
ALTER DATABASE postgres SET stripe_portal.api_base = '$STRIPE_STAND_IN_URL';
ALTER DATABASE postgres SET stripe_portal.ca_file = '$STRIPE_STAND_IN_CA';
ALTER DATABASE postgres SET stripe_portal.api_key_file = '$STRIPE_STAND_IN_DIR/api_key';
ALTER DATABASE postgres SET stripe_portal.webhook_secret_file = '$STRIPE_STAND_IN_DIR/webhook_secret';"
expect '^CREATE EXTENSION'

explain 'The shop may open the portal, the web back end may hand in webhooks, the mailer may' \
    'send what is due; none of them may do anything else, and none ever sees the key.'
sql postgres "CREATE ROLE shop LOGIN;
GRANT EXECUTE ON FUNCTION stripe_portal_session, stripe_portal_open, stripe_winback_open TO shop;
CREATE ROLE mailer LOGIN;
GRANT EXECUTE ON FUNCTION stripe_winback_claim, stripe_winback_sent, stripe_winback_failed TO mailer;
CREATE ROLE gateway LOGIN;
GRANT EXECUTE ON FUNCTION stripe_receive_webhook(bytea, text, timestamptz) TO gateway;"
expect '^GRANT'

# All of this happened ten days ago at Stripe, so that its result can be seen.
stand_in clock '{"advance": -864000}'
gateway=$(<"$SP_WORK/gateway.url")
endpoint=$(stripe webhook_endpoints "{\"url\": \"$gateway\", \"enabled_events\": [\"*\"],
    \"secret\": \"$(<"$STRIPE_STAND_IN_DIR/webhook_secret")\"}")
product=$(stripe products '{"name": "Letters by post"}')
stand_in prices "{\"id\": \"price_monthly\", \"product\": \"$product\", \"currency\": \"eur\",
    \"unit_amount\": 900, \"recurring\": {\"interval\": \"month\"}}"
for name in ada ben cleo; do
    stand_in customers "{\"id\": \"cus_$name\", \"email\": \"$name@example.com\"}"
    stand_in subscriptions "{\"id\": \"sub_$name\", \"customer\": \"cus_$name\", \"price\": \"price_monthly\"}"
done
stand_in subscriptions/sub_ben/status '{"status": "unpaid"}'
stand_in settle '{}'

explain 'Three people subscribe at Stripe, and one of them, Ben, stops paying. Stripe' \
    "tells the back end at $gateway, and test/gateway.py hands every" \
    'webhook to the database. So it knows:'
sql postgres "SELECT customer, id, status, current_period_end::date AS paid_until
FROM stripe_portal.subscription ORDER BY id;"
expect 'cus_ada +\| sub_ada +\| active'
expect 'cus_ben +\| sub_ben +\| unpaid'

step '1. A subscriber opens the portal'

explain 'One call, and the shop redirects Ada to the URL.'
sql shop "SELECT stripe_portal_session('cus_ada', 'https://shop.example.com/account') AS url;"
expect 'https://billing\.stripe\.com/'

step '2. A lapsed one is refused'

explain 'Ben does not get in: the rule is asked before anything is sent to Stripe.'
sql shop "SELECT stripe_portal_session('cus_ben', 'https://shop.example.com/account') AS url;"
expect 'SQLSTATE: SPA01'

explain 'stripe_portal_open makes a refusal an answer instead of an error.'
sql shop "SELECT * FROM stripe_portal_open('cus_ben', 'https://shop.example.com/account');"
expect 'not_active'

explain 'But he may pay: the rule is a table, and lets the unpaid reach that one page.'
sql shop "SELECT url, refused
FROM stripe_portal_open('cus_ben', 'https://shop.example.com/account', flow => 'payment_method_update');"
expect 'https://billing\.stripe\.com/'

explain 'All of it is on record, except the URLs: whoever has one can act as the customer.'
sql postgres "SELECT customer, flow, refused, opened_by FROM stripe_portal.session ORDER BY created;"
expect 'cus_ada +\| portal +\| +\| shop'
expect 'cus_ben +\| portal +\| not_active +\| shop'

step '3. Webhooks arrive out of order, twice, and forged'

stripe "webhook_endpoints/$endpoint" '{"disabled": true}' >/dev/null
stand_in subscriptions/sub_cleo/status '{"status": "past_due"}'
stand_in subscriptions/sub_cleo/status '{"status": "active"}'
quiet "CREATE TABLE delivery AS
    SELECT row_number() OVER () AS n, d ->> 'payload' AS payload, d ->> 'signature' AS signature
    FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/deliveries',
        '{\"object\": \"sub_cleo\", \"type\": \"customer.subscription.updated\"}') -> 'data') AS d;
    GRANT SELECT ON delivery TO gateway"

explain "Cleo's payment fails (delivery 1) and is made good a moment later (delivery 2)." \
    'The second webhook is the first to arrive:'
sql gateway "SELECT r.*
FROM delivery, stripe_receive_webhook(convert_to(payload, 'UTF8'), signature) AS r WHERE n = 2;"
expect 'customer\.subscription\.updated +\| applied'

explain 'Then the first, which is no longer true:'
sql gateway "SELECT r.*
FROM delivery, stripe_receive_webhook(convert_to(payload, 'UTF8'), signature) AS r WHERE n = 1;"
expect 'customer\.subscription\.updated +\| applied'

explain 'The second once more, as happens when Stripe does not hear the answer:'
sql gateway "SELECT r.*
FROM delivery, stripe_receive_webhook(convert_to(payload, 'UTF8'), signature) AS r WHERE n = 2;"
expect 'customer\.subscription\.updated +\| duplicate'

explain 'And from somebody who changed the body, but does not have the secret to sign it:'
sql gateway "SELECT r.*
FROM delivery, stripe_receive_webhook(
    convert_to(replace(payload, '\"active\"', '\"unpaid\"'), 'UTF8'), signature) AS r WHERE n = 2;"
expect 'SQLSTATE: SPW01'

explain 'The tables have what is true: Cleo is active. And each event is there once.'
sql postgres "SELECT customer, id, status FROM stripe_portal.subscription WHERE id = 'sub_cleo';"
expect 'cus_cleo +\| sub_cleo +\| active'
sql postgres "SELECT id, type, payload #>> '{data,object,status}' AS says, status AS outcome
FROM stripe_portal.event WHERE object_id = 'sub_cleo' ORDER BY id;"
expect 'updated +\| past_due +\| applied'
[[ $(grep -c 'subscription\.updated' <<<"$result") == 2 ]] || die 'there are not two events'

step '4. The subscriber cancels in the portal and says why'

explain 'The team has a rule for those who find it too expensive: 20 % for three months. (At' \
    "Stripe it is ten days ago in this demo, so that the rule's effect can be seen at the end.)"
sql postgres "ALTER DATABASE postgres SET stripe_portal.winback_url = 'https://shop.example.com/offer?t={token}';
ALTER DATABASE postgres SET stripe_portal.return_url = 'https://shop.example.com/account';
INSERT INTO stripe_portal.winback_rule
    (name, trigger_on, feedback, kind, discount, subject, body, since)
VALUES ('too expensive', 'cancel_asked', '{too_expensive}', 'promotion_code',
    '{\"percent_off\": 20, \"duration\": \"repeating\", \"duration_in_months\": 3}', 'Stay for 20 % less',
    'Dear {{name|customer}}, the next three months cost 20 % less: {{link}}', now() - interval '11 days');"
expect '^INSERT 0 1'

session=$(quiet "SELECT stripe_id FROM stripe_portal.session WHERE customer = 'cus_ada'")
stripe "webhook_endpoints/$endpoint" '{"disabled": false}' >/dev/null
stand_in visit "{\"session\": \"$session\", \"action\": \"cancel\", \"feedback\": \"too_expensive\",
    \"comment\": \"I write too few letters.\"}"
stand_in settle '{}'

explain 'At the URL of step 1, Ada cancels and fills in the survey. Stripe sends one webhook' \
    'for each, and a moment later it is here:'
sql postgres "SELECT customer, status, cancel_at::date, cancellation_feedback, cancellation_comment
FROM stripe_portal.subscription WHERE customer = 'cus_ada';"
expect 'cus_ada +\| active +\| 2[0-9-]+ +\| too_expensive +\| I write too few letters\.'

explain 'She has paid until then, so the portal is still open to her:'
sql shop "SELECT refused, url IS NOT NULL AS opened
FROM stripe_portal_open('cus_ada', 'https://shop.example.com/account');"
expect '\| t$'

step '5. She is offered to stay for less, and does'

explain 'The rule has made its offer, once, whatever order the webhooks came in:'
sql postgres "SELECT customer, rule, kind, state, feedback, mrr FROM stripe_portal.winback_offer;"
expect 'cus_ada +\| too expensive +\| promotion_code +\| planned +\| too_expensive +\| 900'

explain 'examples/winback_worker.py waits for something to send. The tick makes a code for Ada' \
    'alone at Stripe, and wakes it.'
start_worker
sql postgres 'CALL stripe_portal_tick();'
expect '^CALL'

explain 'A moment later Ada has a mail:'
result=$(read_mail)
printf '%s\n\n' "$result"
expect '^To: ada@example\.com$'
expect '^Dear customer, .* https://shop\.example\.com/offer\?t='

explain 'A portal link lives five minutes, a mail longer. So the link leads to a page of the' \
    "shop's, which asks for a session when somebody comes:"
sql shop "SELECT stripe_winback_open('$(sed -n 's/.*offer?t=//p' <<<"$result")') AS url;"
expect 'https://billing\.stripe\.com/'

session=$(quiet "SELECT stripe_id FROM stripe_portal.session WHERE flow = 'subscription_update_confirm'")
stand_in visit "{\"session\": \"$session\", \"action\": \"confirm\"}"
stand_in visit "{\"session\": \"$session\", \"action\": \"renew\"}"
stand_in settle '{}'
kill "$worker" "$mail_server"

explain 'There she confirms the discount, and takes her cancellation back.'
sql postgres "SELECT s.customer, s.status, s.cancel_at, k.percent_off, k.duration_in_months, o.state, o.saved_stage
FROM stripe_portal.winback_offer AS o
JOIN stripe_portal.subscription AS s ON s.id = o.subscription
JOIN stripe_portal.coupon AS k ON k.id = o.coupon;"
expect 'cus_ada +\| active +\| +\| +20 \| +3 \| accepted +\| before_end'

explain 'A week after the offer she is still there, so it counts as a save:'
sql postgres "SELECT days, offered, reached, accepted, saved, held_out, verdict
FROM stripe_winback_lift('too expensive') WHERE segment = 'all' AND currency IS NULL;"
expect ' 7 \| +1 \| +1 \| +1 \| +1 \| +0 \| too few to say'

if [[ ${1:-} == --keep ]]; then
    touch "$SP_WORK/keep"
    say "Everything was as promised, and is still running. To look around:
    psql -h $PGHOST -U postgres        (or -U shop, -U gateway)
Webhooks go to $gateway. To stop and remove all of it:
    kill -INT $postmaster; sleep 2; rm -rf $SP_WORK"
else
    say 'Everything was as promised.'
    kill -INT "$postmaster"
    wait                        # the stand-in ends with the server
fi
