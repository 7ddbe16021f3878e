# No second offer: not by a restore, a replay of the whole ledger, a history that
# is built anew, a logical subscriber, or ticks at the same moment.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $secret_file = PostgreSQL::Test::Utils::tempdir() . '/webhook_secret';
append_to_file($secret_file, "whsec_winback\n");
chmod 0600, $secret_file;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "stripe_portal.webhook_secret_file = '$secret_file'");
$node->start;

# Ten customers ask for a cancellation, two days ago; the odd ones think again.
my $story = q(
	CREATE TABLE story AS
	SELECT row_number() OVER (ORDER BY n, step) AS n, jsonb_build_object('id', format('evt_%s_%s', n, step), 'object', 'event',
		'type', 'customer.subscription.' || type, 'created', at, 'livemode', true,
		'data', jsonb_build_object('object', jsonb_build_object('object', 'subscription', 'id', 'sub_' || n, 'customer', 'cus_' || n, 'status', 'active',
			'currency', 'eur', 'created', start, 'start_date', start, 'items', '{"data": []}'::jsonb, 'discounts', '[]'::jsonb, 'cancel_at_period_end', canceling,
			'cancel_at', CASE WHEN canceling THEN start + 20000000 END, 'canceled_at', CASE WHEN canceling THEN asked END,
			'cancellation_details', jsonb_build_object('reason', CASE WHEN canceling THEN 'cancellation_requested' END)))) AS event
	FROM (SELECT extract(epoch FROM date_trunc('hour', now()) - interval '100 days')::bigint, extract(epoch FROM date_trunc('hour', now()) - interval '2 days')::bigint) AS t (start, asked),
		generate_series(1, 10) AS n,
		LATERAL (VALUES (1, 'created', start, false), (2, 'updated', asked, true), (3, 'updated', asked + 60, n % 2 = 0)) AS s (step, type, at, canceling);
	CREATE FUNCTION deliver(payload text) RETURNS text LANGUAGE sql AS $$
		SELECT outcome FROM stripe_receive_webhook(payload, stripe_sign_webhook(payload, trim(E'\n' FROM pg_read_file(current_setting('stripe_portal.webhook_secret_file'))))) $$;
);
my $tell = 'SELECT string_agg(DISTINCT outcome, $$ $$) FROM (SELECT deliver(event::text) AS outcome FROM story ORDER BY n) AS told';

# Everything about the offers in one text.
sub offers
{
	my ($db) = @_;
	return $node->safe_psql($db, 'SELECT o::text FROM stripe_portal.winback_offer AS o ORDER BY o.customer, o.episode');
}

$node->safe_psql('postgres', 'CREATE EXTENSION stripe_portal;' . $story . q(
	CREATE TABLE vip (customer text);
	INSERT INTO stripe_portal.coupon (id, livemode, percent_off, duration, event, event_created) VALUES ('STAY20', true, 20, 'once', 'evt_c', now());
	INSERT INTO stripe_portal.winback_rule (name, livemode, trigger_on, kind, subject, body, coupon, holdout, predicate, since) VALUES
		('sorry', true, 'cancel_asked', 'promotion_code', 's', 'b', 'STAY20', 0.3, 'NOT EXISTS (SELECT FROM public.vip AS v WHERE v.customer = candidate.customer)', now() - interval '10 days');
));
is($node->safe_psql('postgres', $tell), 'applied', 'a story is told');
is( $node->safe_psql('postgres', 'SELECT state, count(*) FROM stripe_portal.winback_offer GROUP BY 1 ORDER BY 1'),
	"canceled|3\nheld_out|2\nplanned|5",
	'each customer has one offer, or is held out');
my $before = offers('postgres');

# What is told again, in the database $db, and leaves the offers as they are.
sub told_again
{
	my ($db) = @_;
	is(offers($db), $before, "$db: the offers are the same");
	is($node->safe_psql($db, $tell), 'duplicate', "$db: the events are known");
	is($node->safe_psql($db, q(SELECT DISTINCT r.outcome FROM stripe_portal.event AS e, stripe_replay(e.id, e.livemode) AS r)), 'applied', "$db: and replayed, all of them");
	is(offers($db), $before, "$db: which makes no offer");
	$node->safe_psql($db, 'TRUNCATE stripe_portal.event, stripe_portal.subscription, stripe_portal.subscription_change, stripe_portal.cancellation');
	is($node->safe_psql($db, $tell), 'applied', "$db: a ledger that was lost is told anew");
	is(offers($db), $before, "$db: which makes no offer either");
}

#
# Dump and restore, before the originals are told again
#
my $dump = $node->backup_dir . '/dump';
mkdir $node->backup_dir;
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, '-d', $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), $dump ], 'pg_restore');
is( $node->safe_psql('restored', 'SELECT name, owner = current_user, active FROM stripe_portal.winback_rule'),
	'sorry|t|t', 'the rule is there, as it was');
told_again($_) foreach qw(restored postgres);

#
# A logical subscriber, which has the rules and sees the histories derived
#
$node->safe_psql('postgres', 'CREATE DATABASE subscriber');
$node->safe_psql('subscriber', 'CREATE EXTENSION stripe_portal');
$node->safe_psql('postgres', q(
	CREATE PUBLICATION p FOR TABLE stripe_portal.winback_rule, stripe_portal.subscription_change;
	SELECT pg_create_logical_replication_slot('s', 'pgoutput')));
my $connection = $node->connstr . ' dbname=postgres';
$node->safe_psql('subscriber', "CREATE SUBSCRIPTION s CONNECTION '$connection' PUBLICATION p WITH (create_slot = false, slot_name = 's')");
$node->poll_query_until('subscriber', q(SELECT count(*) = 2 AND bool_and(srsubstate IN ('r', 's')) FROM pg_subscription_rel)) or die 'no synchronization';
$node->safe_psql('postgres', q(UPDATE stripe_portal.subscription_change SET mrr = 1));
$node->wait_for_catchup('s');
is($node->safe_psql('subscriber', 'SELECT count(*) > 20, bool_and(mrr = 1) FROM stripe_portal.subscription_change'), 't|t', 'a logical subscriber has every change');
is($node->safe_psql('subscriber', 'SELECT count(*) FROM stripe_portal.winback_rule'), 1, 'and the rule');
is(offers('subscriber'), '', 'and makes no offer');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION s');

#
# Ticks at the same moment, for offers that have yet to be made
#
$node->safe_psql('restored', 'DELETE FROM stripe_portal.winback_offer');
my @ticks = map { $node->background_psql('restored') } 1 .. 3;
$_->query_until(qr/begun/, "\\echo begun\nSELECT count(stripe_portal.winback_plan(s.id, s.livemode, s.account)), stripe_portal.winback_step(NULL) FROM stripe_portal.subscription AS s;\n") foreach @ticks;
$_->quit foreach @ticks;
is( $node->safe_psql('restored', 'SELECT state, count(*), count(DISTINCT customer) FROM stripe_portal.winback_offer GROUP BY 1 ORDER BY 1'),
	"planned|5|5",
	'three at once make one offer for each who is not back');

$node->stop;
done_testing();
