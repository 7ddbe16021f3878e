# What is in the tables across a crash: nothing is lost, nothing happens twice.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $secret_file = PostgreSQL::Test::Utils::tempdir() . '/webhook_secret';
append_to_file($secret_file, "whsec_ledger\n");
chmod 0600, $secret_file;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "stripe_portal.webhook_secret_file = '$secret_file'");
$node->start;

$node->safe_psql('postgres', q(
	CREATE EXTENSION stripe_portal;
	CREATE FUNCTION event(id text, type text, at integer, object jsonb) RETURNS text LANGUAGE sql AS $$
		SELECT jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', 1700000000 + at,
			'livemode', true, 'data', jsonb_build_object('object', object))::text $$;
	CREATE FUNCTION deliver(payload text) RETURNS text LANGUAGE sql AS $$
		SELECT outcome FROM stripe_receive_webhook(payload, stripe_sign_webhook(payload, trim(E'\n' FROM pg_read_file(current_setting('stripe_portal.webhook_secret_file'))))) $$;
	CREATE TABLE handled (event text);
	CREATE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE sql AS
		'INSERT INTO public.handled VALUES (e.id)';
	INSERT INTO stripe_portal.event_handler VALUES ('customer.*', 'public.handle');
));

sub deliver
{
	my ($n, $id, $type, $at, $object) = @_;
	return $n->safe_psql('postgres', "SELECT deliver(event('$id', '$type', $at, '$object'))");
}

#
# A crash
#
my $subscription = '{"object": "subscription", "id": "sub_1", "customer": "cus_1", "status": "%s"}';
is(deliver($node, 'evt_1', 'customer.created', 0, '{"object": "customer", "id": "cus_1", "name": "Jenny"}'),
	'applied', 'an event is applied');
is(deliver($node, 'evt_2', 'customer.subscription.created', 1, sprintf($subscription, 'active')), 'applied', 'so is a second');

my $open = $node->background_psql('postgres');
$open->query_safe("BEGIN; SELECT deliver(event('evt_3', 'customer.subscription.updated', 2, '" . sprintf($subscription, 'past_due') . "'))");
$node->stop('immediate');
$open->{run}->finish;
$node->start;

is($node->safe_psql('postgres', "SELECT string_agg(id, ' ' ORDER BY id) FROM stripe_portal.event"),
	'evt_1 evt_2', 'after a crash, what was answered is there, what was not is not');
is($node->safe_psql('postgres', 'SELECT status FROM stripe_portal.subscription'), 'active', 'the same goes for the state');
is(deliver($node, 'evt_2', 'customer.subscription.created', 1, sprintf($subscription, 'active')), 'duplicate', 'Stripe may repeat the one');
is(deliver($node, 'evt_3', 'customer.subscription.updated', 2, sprintf($subscription, 'past_due')), 'applied', 'and will send the other again');
is($node->safe_psql('postgres', 'SELECT string_agg(event, $$ $$) FROM handled'), 'evt_1 evt_2 evt_3', 'each was handled once');

$node->stop;
done_testing();
