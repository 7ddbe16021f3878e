#!/usr/bin/env bash
#
# session.sh
#     What opening a portal session costs beside the exchange with Stripe that
#     it is made for, with Stripe as fast as can be: an nginx on this machine
#     that answers every request with the same session.
#
# Usage: test/bench/session.sh [SESSIONS]
#     3000 sessions in each round by default, over TLS on one connection that
#     is kept, all in one transaction.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh
. test/bench/lib.sh
BENCH_PACKAGES=(nginx-light)
bench_copy test/bench/session.sh "$@"

sessions=${1:-3000}

bench_server
{
    gcc -O2 -o "$SP_WORK/https_loop" test/bench/https_loop.c -lcurl
    mkdir "$SP_WORK/node"
    cp test/npm/package.json test/npm/package-lock.json test/bench/session.js "$SP_WORK/node"
    (cd "$SP_WORK/node" && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier --cache "$SP_WORK/npm-cache")
} >"$SP_WORK/log/peers.log" 2>&1

# Stripe, as far as this needs it.
mkdir "$SP_WORK/nginx"
python3 - "$SP_WORK/nginx" <<'END'
import pathlib
import sys

sys.path.insert(0, 'test')
from stand_in import certificates

certificates.make(pathlib.Path(sys.argv[1]))
END
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$SP_WORK/nginx/nginx.conf" <<END
daemon off;
pid $SP_WORK/nginx/pid;
error_log $SP_WORK/log/nginx.log;
worker_processes 1;
events {}
http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path $SP_WORK/nginx/body;
    proxy_temp_path $SP_WORK/nginx/proxy;
    fastcgi_temp_path $SP_WORK/nginx/fastcgi;
    uwsgi_temp_path $SP_WORK/nginx/uwsgi;
    scgi_temp_path $SP_WORK/nginx/scgi;
    server {
        listen 127.0.0.1:$port ssl;
        ssl_certificate $SP_WORK/nginx/server.pem;
        ssl_certificate_key $SP_WORK/nginx/server.key;
        ssl_protocols TLSv1.3;
        location = /v1/billing_portal/sessions {
            default_type application/json;
            return 200 '{"id": "bps_bench", "object": "billing_portal.session", "configuration": "bpc_bench", "created": 1790000000, "customer": "cus_bench", "customer_account": null, "flow": null, "livemode": false, "locale": null, "on_behalf_of": null, "return_url": "https://app.example.com/account", "url": "https://billing.stripe.com/p/session/test_YWNjdF8xTTJKVGtMa2RJd0h1N2l4LF9RN0VJbWR2"}';
        }
    }
}
END
nginx=$(PATH=$PATH:/usr/sbin command -v nginx)
"$nginx" -e "$SP_WORK/log/nginx.log" -c "$SP_WORK/nginx/nginx.conf" &
url=https://localhost:$port
until bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" 2>/dev/null; do sleep 0.1; done

printf 'sk_test_bench\n' >"$SP_WORK/key"
chmod 600 "$SP_WORK/key"
export NODE_EXTRA_CA_CERTS=$SP_WORK/nginx/ca.pem
export PGOPTIONS="-c stripe_portal.api_base=$url -c stripe_portal.ca_file=$SP_WORK/nginx/ca.pem -c stripe_portal.api_key_file=$SP_WORK/key"

psql -X -q -v ON_ERROR_STOP=1 >/dev/null <<'END'
CREATE EXTENSION stripe_portal;
SELECT stripe_portal.apply_object('{"id": "cus_bench", "object": "customer", "livemode": false}', false, '', now());
SELECT stripe_portal.apply_object(jsonb_build_object(
    'id', 'sub_bench', 'object', 'subscription', 'livemode', false, 'customer', 'cus_bench', 'status', 'active',
    'created', 1790000000, 'start_date', 1790000000, 'items', '{"data": []}'::jsonb), false, '', now());
VACUUM ANALYZE;
END

# Each way prints the seconds that it took; it is only once that the connection is made.
way() {
    case $1 in
        exchange)
            "$SP_WORK/https_loop" "$sessions" "$url/v1/billing_portal/sessions" "$SP_WORK/nginx/ca.pem" sk_test_bench ;;
        stripe-node)
            node "$SP_WORK/node/session.js" "$sessions" "$url" sk_test_bench ;;
        stripe_portal_session)
            psql -X -q -At -v ON_ERROR_STOP=1 -v n="$sessions" <<'END'
\o /dev/null
SELECT stripe_portal_session('cus_bench', 'https://app.example.com/account');
SELECT clock_timestamp() AS began \gset
SELECT count(stripe_portal_session('cus_bench', 'https://app.example.com/account')) FROM generate_series(1, :n);
\o
SELECT extract(epoch FROM clock_timestamp() - :'began');
END
            ;;
    esac
}

for ((round = 0; round < rounds; round++)); do
    for name in exchange stripe-node stripe_portal_session; do
        took "$name" way "$name"
    done
done

own_memory
{
    figure=$(rate stripe_portal_session "$sessions")
    row 'portal session: stripe_portal_session' "$figure" '1/s' "$(times stripe_portal_session exchange)" 'libcurl' 0.7
    row 'portal session: stripe_portal_session' "$figure" '1/s' "$(times stripe_portal_session stripe-node)" 'stripe-node' 2
    row 'portal session: what it adds to the exchange' \
        "$(paste "$SP_WORK/seconds/stripe_portal_session" "$SP_WORK/seconds/exchange" | awk '{ print $1 - $2 }' | median |
           awk -v n="$sessions" '{ printf "%.0f\n", $1 / n * 1e6 }')" 'µs'
    row 'portal session: a loop of libcurl' "$(rate exchange "$sessions")" '1/s'
    row 'portal session: stripe-node' "$(rate stripe-node "$sessions")" '1/s'
    memory_row "stripe_portal_session, $sessions times" \
        "SELECT count(stripe_portal_session('cus_bench', 'https://app.example.com/account')) FROM generate_series(1, $sessions)"
} >"$SP_WORK/summary"
