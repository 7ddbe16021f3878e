# Reading everything from Stripe under fire: the server is killed half-way, two
# do it at once, Stripe refuses what comes too fast, and webhooks arrive while
# pages are under way.  Afterwards the tables show what is true.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_stand_in wait_until_up);
use Test::More;
use Time::HiRes qw(usleep);

my $customers = 400;
my $page = 10;

my %stand_in = start_stand_in();

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
stripe_portal.api_base = '$stand_in{url}'
stripe_portal.ca_file = '$stand_in{ca_file}'
stripe_portal.api_key_file = '$stand_in{api_key_file}'
stripe_portal.webhook_secret_file = '$stand_in{webhook_secret_file}'
stripe_portal.rate_limit = 1000
fsync = off
restart_after_crash = on
));
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION stripe_portal;
	CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
	LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
	CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS $$
		TRUNCATE stripe_portal.event, stripe_portal.customer, stripe_portal.product, stripe_portal.price, stripe_portal.subscription,
			stripe_portal.payment_method, stripe_portal.entitlement, stripe_portal.sync_cursor, stripe_portal.event_cursor $$;
	-- what differs between the tables and the stand-in, by no code of the extension's
	CREATE FUNCTION wrong(cards boolean DEFAULT true) RETURNS SETOF text LANGUAGE sql AS $$
		WITH state AS MATERIALIZED (SELECT stand_in('GET', 'state') -> 'objects' AS objects),
		truth AS (
			SELECT concat_ws(' ', o ->> 'id', o ->> 'email') AS row FROM state, jsonb_array_elements(objects -> 'customer') AS o
			UNION ALL
			SELECT concat_ws(' ', o ->> 'id', o ->> 'status', o ->> 'customer', o #>> '{items,data,0,quantity}', o ->> 'cancel_at')
			FROM state, jsonb_array_elements(objects -> 'subscription') AS o
			UNION ALL
			SELECT concat_ws(' ', o ->> 'id', o ->> 'customer') FROM state, jsonb_array_elements(objects -> 'payment_method') AS o WHERE cards
			UNION ALL
			SELECT concat_ws(' ', o ->> 'customer', '{seats}') FROM state, jsonb_array_elements(objects -> 'subscription') AS o
			WHERE cards AND o ->> 'status' = 'active'),
		shown AS (
			SELECT concat_ws(' ', id, email) AS row FROM stripe_portal.customer WHERE NOT deleted
			UNION ALL
			SELECT concat_ws(' ', id, status, customer, items -> 0 ->> 'quantity', extract(epoch FROM cancel_at)::bigint)
			FROM stripe_portal.subscription
			UNION ALL
			SELECT concat_ws(' ', id, customer) FROM stripe_portal.payment_method WHERE cards AND attached
			UNION ALL
			SELECT concat_ws(' ', customer, lookup_keys) FROM stripe_portal.entitlement WHERE cards AND lookup_keys <> '{}')
		SELECT coalesce('not here: ' || t.row, 'not true: ' || s.row) FROM truth AS t FULL JOIN shown AS s USING (row)
		WHERE t.row IS NULL OR s.row IS NULL $$;
	SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
	SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
));

# Customers and their subscriptions, a day apart now and then, every fifth canceled;
# a card each, and what those with a subscription are entitled to.
sql(qq(
	DO \$\$ BEGIN
		PERFORM stand_in('POST', 'clock', '{"advance": -31536000}');
		FOR n IN 1..$customers LOOP
			PERFORM stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || n, 'email', n || '\@example.com'));
			PERFORM stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || n, 'customer', 'cus_' || n, 'price', 'price_1', 'quantity', n % 7 + 1));
			PERFORM stripe_api('POST', '/v1/payment_methods/pm_card_visa/attach', jsonb_build_object('customer', 'cus_' || n));
			IF n % 5 = 0 THEN
				PERFORM stand_in('POST', format('subscriptions/sub_%s/status', n), '{"status": "canceled"}');
			END IF;
			IF n % 20 = 0 THEN
				PERFORM stand_in('POST', 'clock', '{"advance": 1400000}');
			END IF;
		END LOOP;
	END \$\$;
	SELECT stripe_api('POST', '/v1/products/prod_1/features', jsonb_build_object('entitlement_feature',
		stripe_api('POST', '/v1/entitlements/features', '{"name": "Seats", "lookup_key": "seats"}') ->> 'id'));
	SELECT stand_in('POST', 'page_limit', '{"limit": $page}')));
my $pages = 2 * $customers / $page + 2 * $customers;
note "numbers: $customers customers with a subscription and a card each, $page on a page: $pages pages at least, most of them of one customer";

#
# Killed half-way, at three different points in what is listed, and at one in what
# is read customer by customer
#
my $requests = 0;
foreach my $kill (1 .. 4)
{
	my $so_far = $kill == 4 ? "object = 'payment_method' AND rows >= $customers / 4"
	  : "object IN ('customer', 'subscription') HAVING sum(rows) >= $kill * $customers / 2";
	my $seconds = $kill == 4 ? 0.03 : 0.15;

	sql(qq(SELECT stand_in('POST', 'reset'), stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": $seconds, "times": 0}')));
	sql("SELECT stand_in('POST', 'page_limit', '{\"limit\": $page}')");
	my $run = start_sync();
	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM stripe_portal.sync_progress WHERE $so_far)")
	  or die 'no progress';
	ok($node->poll_query_until('postgres', q(
		SELECT bool_or(state = 'unfinished' AND rate > 0 AND estimated_end > started) FROM stripe_portal.sync_progress)),
		'progress is visible from another session') if $kill == 1;
	my ($told, $notices);
	$node->psql('postgres', q(SELECT stripe_portal.sync_tell('{customer, subscription}', '')), stdout => \$told, stderr => \$notices);
	like($notices, qr/NOTICE: +(customer|subscription): \d+ read in \d+ pages, [\d.]+ per second, to end about \d\d:\d\d:\d\d/,
		'and can be told') if $kill == 1;
	ok($node->poll_query_until('postgres', q(
		SELECT bool_or(state = 'unfinished' AND rate > 0 AND estimated_end > started) FROM stripe_portal.sync_progress WHERE object = 'payment_method')),
		'also when it goes from customer to customer') if $kill == 4;
	kill 'KILL', $run->{pid};
	$run->{psql}->finish;
	wait_until_up($node);
	$requests += sql(q(SELECT jsonb_array_length(stand_in('GET', 'requests') -> 'data')));
}
my $before = sql(q(SELECT sum(pages) FROM stripe_portal.sync_cursor));
sql(q(SELECT stand_in('POST', 'reset')));
sql("SELECT stand_in('POST', 'page_limit', '{\"limit\": $page}')");
sql('CALL stripe_sync()');
$requests += sql(q(SELECT jsonb_array_length(stand_in('GET', 'requests') -> 'data')));
is(sql('SELECT wrong()'), '', 'after four kills and a resumption, the tables show what is true');

# Each kill costs the pages that were under way, and the halving of slices some.
my $read = sql(q(SELECT sum(pages) FROM stripe_portal.sync_cursor));
cmp_ok($read, '>=', $pages, 'all pages were read');
cmp_ok($requests, '<=', $read + 4 * (4 + 1) + 5, 'and hardly one of them twice');
note "numbers: killed 4 times after $before pages; $read pages, $requests requests";

#
# Two at once
#
sql(q(SELECT forget(), stand_in('POST', 'reset'), stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 0.05, "times": 0}')));
sql("SELECT stand_in('POST', 'page_limit', '{\"limit\": $page}')");
my @runs = map { start_sync() } 1 .. 2;
$_->{psql}->finish foreach @runs;
is(join('', map { $_->{stderr} =~ /ERROR.*/g } @runs), '', 'two at once do not get in each other\'s way');
is(sql('SELECT wrong()'), '', 'and the tables show what is true');
$requests = sql(q(SELECT jsonb_array_length(stand_in('GET', 'requests') -> 'data')));
$read = sql(q(SELECT sum(pages) FROM stripe_portal.sync_cursor));
cmp_ok($requests, '<', 1.5 * $read, 'they share the work');
cmp_ok(sql(q(SELECT count(DISTINCT r -> 'connection') FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r)),
	'>', 2, 'several requests are in flight');
note "numbers: two at once: $read pages, $requests requests";

#
# A run that takes long tells of itself now and then, not with every page
#
my $told_pages = 16;
sql(q(SELECT stand_in('POST', 'reset'), stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 1, "times": 0}')));
sql("SELECT stand_in('POST', 'page_limit', jsonb_build_object('limit', $customers / $told_pages))");
my $slow = start_psql(q(SET stripe_portal.in_flight = 1; CALL stripe_sync('{customer}');));
$slow->{psql}->finish;
my @told = $slow->{stderr} =~ /NOTICE: +customer: (\d+) read in \d+ pages, [\d.]+ per second, to end about/g;
cmp_ok(scalar(@told), '>=', 1, 'a long run tells how far it is');
cmp_ok(scalar(@told), '<=', $told_pages / 4, 'but not with every page');
like($slow->{stderr}, qr/NOTICE: +customer: $customers read$/m, 'and at its end');
note "numbers: told @{[ scalar @told ]} times in $told_pages pages of a second each: @told";
sql(q(SELECT stand_in('POST', 'reset')));

#
# Stripe's rate limit
#
my $listed = q('{customer, subscription, product, price}');
sql(q(SELECT forget(), stand_in('POST', 'reset'), stand_in('POST', 'rate_limit', '{"per_second": 5, "retry_after": 1}')));
sql(q(SELECT stand_in('POST', 'page_limit', '{"limit": 40}')));
sql("SET stripe_portal.rate_limit = 200; CALL stripe_sync($listed)");
my ($all, $refused) = split /\|/, sql(q(SELECT r ->> 'requests', r ->> 'refused' FROM stand_in('GET', 'rate_limit') AS r));
cmp_ok($refused, '>', 0, 'too fast, Stripe refuses');
is(sql('SELECT wrong(false)'), '', 'which is waited for, and the tables show what is true');
note "numbers: limit 5 per second, 200 allowed here: $all requests, $refused refused";

sql(q(SELECT forget(), stand_in('POST', 'reset'), stand_in('POST', 'rate_limit', '{"per_second": 20, "retry_after": 1}')));
sql("SET stripe_portal.rate_limit = 15; CALL stripe_sync($listed)");
my $peak;
($all, $refused, $peak) = split /\|/, sql(q(SELECT r ->> 'requests', r ->> 'refused', r ->> 'peak' FROM stand_in('GET', 'rate_limit') AS r));
is($refused, 0, 'at a pace that Stripe accepts, nothing is refused');
is(sql('SELECT wrong(false)'), '', 'and the tables show what is true');
note "numbers: limit 20 per second, 15 here: $all requests, $peak in the busiest second";
sql(q(SELECT stand_in('POST', 'rate_limit')));

#
# Webhooks while pages are under way: what was read before does not undo them
#
sql(q(SELECT forget(), stand_in('POST', 'reset'),
	stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 3, "path": "/v1/subscriptions"}'),
	stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 3, "path": "/v1/customers"}')));
my $run = start_psql("CALL stripe_sync($listed);");
$node->poll_query_until('postgres', q(
	SELECT count(*) = 2 FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r
	WHERE r ->> 'path' IN ('/v1/subscriptions', '/v1/customers') AND r ->> 'fault' IS NOT NULL)) or die 'no page is under way';
sql(qq(
	SELECT stripe_api('POST', '/v1/customers/cus_$customers', '{"email": "changed\@example.com"}');
	SELECT stripe_api('DELETE', '/v1/subscriptions/sub_@{[ $customers - 1 ]}');));
is(sql(qq(
	SELECT string_agg(outcome, ' ')
	FROM (VALUES ('customer.updated'), ('customer.subscription.deleted')) AS t (type),
		LATERAL (SELECT stand_in('GET', 'deliveries', jsonb_build_object('type', type, 'limit', 1)) #> '{data,0}') AS d (d),
		stripe_receive_webhook(d ->> 'payload', d ->> 'signature'))), 'applied applied', 'webhooks arrive while pages are under way');
$run->{psql}->finish;
is(sql('SELECT wrong(false)'), '', 'the pages do not undo them');

#
# A customer who is read before being refused is not locked while Stripe opens the portal
#
sql(q(SELECT forget(), stand_in('POST', 'reset'),
	stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 3, "path": "/v1/billing_portal"}')));
$run = start_psql(q(SET stripe_portal.refresh_unknown = on; SELECT stripe_portal_session('cus_1', 'https://app.example.com') LIKE 'https://%';));
$node->poll_query_until('postgres', q(
	SELECT EXISTS (SELECT FROM jsonb_array_elements(stand_in('GET', 'requests') -> 'data') AS r WHERE r ->> 'path' LIKE '/v1/billing_portal%')))
  or die 'no session is being opened';
is(sql(q(SET lock_timeout = '500ms';
	INSERT INTO stripe_portal.customer (id, livemode, event, event_created) VALUES ('cus_1', false, 'evt_1', now() - interval '1 year');
	SELECT count(*) FROM stripe_portal.customer;)), '1', 'an event of theirs goes through meanwhile');
$run->{psql}->finish;
like($run->{stdout}, qr/^t$/m, 'and the session is opened');

$node->stop;
done_testing();

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

sub start_sync
{
	return start_psql('CALL stripe_sync();');
}

# Starts psql, and gives the process id of its server.
sub start_psql
{
	my ($sql) = @_;
	my %run = (stdout => '', stderr => '');

	$run{psql} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT pg_backend_pid()', map { ('-c', $_) } grep { /\S/ } split /(?<=;)/, $sql ],
		'>', \$run{stdout}, '2>', \$run{stderr}, IPC::Run::timeout(120));
	$run{psql}->pump until $run{stdout} =~ /^(\d+)$/m;
	($run{pid}) = $run{stdout} =~ /^(\d+)$/m;
	return \%run;
}
