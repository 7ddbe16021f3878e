# Nothing grows per call: one backend receives a hundred thousand deliveries and
# opens ten thousand portal sessions, and holds as much memory and as many
# descriptors afterwards as when it had warmed up.
#
# SP_RECEIVES and SP_SESSIONS make it longer or shorter; what runs by default is
# a part of that.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_with_stand_in);
use Test::More;

my $receives = $ENV{SP_RECEIVES} // 20_000;
my $sessions = $ENV{SP_SESSIONS} // 2_000;

# A leak of sixteen bytes per call is more than this after a hundred thousand.
my $allowed = 1024;

my ($node) = start_with_stand_in();
$node->safe_psql('postgres', q(
	CREATE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF e.id LIKE '%7' THEN RAISE 'a handler that fails'; END IF;
	END $$;
	INSERT INTO stripe_portal.event_handler VALUES ('customer.updated', 'public.handle');

	-- Of ten deliveries: five change a subscription, one a customer, whose
	-- handler fails now and then, one is of a kind without a table, one can not
	-- be applied, one is no event, and one has a bad signature.
	CREATE FUNCTION body(n integer) RETURNS text LANGUAGE sql AS $$
		SELECT CASE WHEN n % 10 = 8 THEN 'not an event ' || n ELSE jsonb_build_object('id', 'evt_' || n, 'object', 'event', 'livemode', false,
			'created', 1790000000 + n, 'type', CASE WHEN n % 10 < 5 THEN 'customer.subscription.updated' WHEN n % 10 = 6 THEN 'climate.order.created'
			ELSE 'customer.updated' END, 'data', jsonb_build_object('object', CASE
			WHEN n % 10 < 5 THEN jsonb_build_object('object', 'subscription', 'id', 'sub_' || n % 100, 'customer', 'cus_' || n % 100, 'status',
				CASE WHEN n % 4 = 0 THEN 'past_due' ELSE 'active' END, 'currency', 'usd', 'items', jsonb_build_object('data', jsonb_build_array(
				jsonb_build_object('id', 'si_' || n % 100, 'quantity', n % 7, 'price', jsonb_build_object('object', 'price', 'id', 'price_1', 'currency', 'usd',
				'unit_amount', 1000, 'billing_scheme', 'per_unit', 'type', 'recurring', 'recurring', '{"interval": "month", "interval_count": 1, "usage_type": "licensed"}'::jsonb)))))
			WHEN n % 10 = 6 THEN jsonb_build_object('object', 'climate.order', 'id', 'climorder_' || n)
			ELSE jsonb_build_object('object', 'customer', 'id', 'cus_' || n % 100, 'balance', CASE WHEN n % 10 = 7 THEN '"x"' ELSE to_jsonb(n) END)
			END))::text END $$;
	CREATE PROCEDURE receive(first integer, last integer) LANGUAGE plpgsql AS $$
	DECLARE
		secret CONSTANT text := webhook_secret();
	BEGIN
		FOR n IN first .. last LOOP
			BEGIN
				PERFORM stripe_receive_webhook(body(n), stripe_sign_webhook(body(n), CASE WHEN n % 10 = 9 THEN 'whsec_wrong' ELSE secret END));
			EXCEPTION WHEN SQLSTATE 'SPW01' THEN
				NULL;
			END;
			COMMIT;
		END LOOP;
	END $$;
	-- Of ten sessions one is refused, and of one the token comes back.
	CREATE PROCEDURE open_sessions(first integer, last integer) LANGUAGE plpgsql AS $$
	DECLARE
		opened record;
	BEGIN
		FOR n IN first .. last LOOP
			SELECT * INTO opened FROM stripe_portal_open(CASE WHEN n % 10 = 0 THEN 'cus_nobody' ELSE 'cus_1' END, 'https://app.example.com/back?t={token}');
			COMMIT;
			BEGIN
				PERFORM stripe_portal_return('x' || n);
			EXCEPTION WHEN SQLSTATE 'SPR01' THEN
				NULL;
			END;
			COMMIT;
		END LOOP;
	END $$;
	SELECT stand_in('POST', 'customers', '{"id": "cus_1"}');
));

my $session = $node->background_psql('postgres');
$session->set_query_timer_restart;
my $pid = $session->query_safe('SELECT pg_backend_pid()');

# What the backend holds: kilobytes of memory of its own, and descriptors but
# for those of the files of tables and indexes, which the server keeps a few
# of open.
sub held
{
	my ($memory) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	opendir(my $dir, "/proc/$pid/fd") or die "can not look at the descriptors: $!";
	my $descriptors = grep { !m{/pgdata/base/} } map { readlink "/proc/$pid/fd/$_" // () } readdir $dir;

	return ($memory, $descriptors);
}

# In portions, none of which takes long.
sub call_for
{
	my ($procedure, $first, $last) = @_;

	for (my $n = $first; $n <= $last; $n += 1000)
	{
		$session->query_safe("CALL $procedure($n, least($n + 999, $last))");
	}
	return;
}

# Calls a procedure so often, and looks at what has grown since a tenth of it.
sub nothing_grows
{
	my ($what, $procedure, $calls) = @_;
	my $warm = $calls / 10;
	my $began = time;

	call_for($procedure, 1, $warm);
	my ($memory, $descriptors) = held();
	call_for($procedure, $warm + 1, $calls);
	my ($memory_after, $descriptors_after) = held();

	note "numbers: $calls $what, " . (time - $began) . " s; memory $memory kB, then $memory_after kB; descriptors $descriptors, then $descriptors_after";
	cmp_ok($memory_after - $memory, '<', $allowed, "$what take no memory that stays");
	cmp_ok($descriptors_after, '<=', $descriptors, "$what leave no descriptor open");
	return;
}

nothing_grows('deliveries', 'receive', $receives);
is($node->safe_psql('postgres', q(SELECT string_agg(format('%s %s', n, status), ', ' ORDER BY status) FROM (
		SELECT count(*) AS n, status FROM stripe_portal.event GROUP BY 2) AS s)),
	join(', ', $receives * 0.6 . ' applied', $receives * 0.2 . ' failed', $receives / 10 . ' ignored'), 'all of them came to what they should');
nothing_grows('sessions', 'open_sessions', $sessions);
is($node->safe_psql('postgres', q(SELECT string_agg(format('%s %s', n, refused), ', ' ORDER BY refused) FROM (
		SELECT count(*) AS n, coalesce(refused, 'opened') AS refused FROM stripe_portal.session GROUP BY 2) AS s)),
	$sessions * 0.1 . ' customer_unknown, ' . $sessions * 0.9 . ' opened', 'so were these');

$session->quit;
$node->stop;
done_testing();
