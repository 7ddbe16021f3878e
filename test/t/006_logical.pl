# Logical replication of all tables, out of the box: the subscriber has what the
# publisher has, whatever becomes of the rows and of the ledger's partitions on
# either side, can report on it, and does nothing of its own.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Life;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $settings = stand_in_settings();
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->append_conf('postgresql.conf', $settings . "fsync = off\nstripe_portal.winback_url = 'https://app.example.com/offer?t={token}'\n");
$publisher->start;
is(live($publisher, 'postgres'), '', 'every table has something in it');
# What a subscriber has to find a row by: a key, in every table and partition.
is($publisher->safe_psql('postgres', q(
	SELECT c.oid::regclass FROM pg_class AS c
	WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind = 'r'
	  AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary))), '', 'every table has a key');

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(allows_streaming => 'logical');
$subscriber->append_conf('postgresql.conf', "fsync = off\nwal_retrieve_retry_interval = '200ms'\n");
$subscriber->start;
$subscriber->safe_psql('postgres', q(
	CREATE EXTENSION stripe_portal;
	SELECT FROM stripe_portal.tend_ledger();
	-- what stripe_portal_map_users was told of
	CREATE TABLE account (id integer PRIMARY KEY, stripe_customer text);
	-- a handler, which nothing calls
	CREATE TABLE handled (event text);
	CREATE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE sql AS 'INSERT INTO public.handled VALUES (e.id)'));
run_file($subscriber, 'postgres', 'test/contents.sql');
my $listener = $subscriber->background_psql('postgres');
$listener->query_safe('LISTEN stripe_winback');

$publisher->safe_psql('postgres', 'CREATE PUBLICATION stripe FOR TABLES IN SCHEMA stripe_portal WITH (publish_via_partition_root = true)');
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION stripe CONNECTION '$connection' PUBLICATION stripe");
$subscriber->wait_for_subscription_sync($publisher, 'stripe');
same('what was there is copied');

# ---------------------------------------------------------------------------
# Life goes on
# ---------------------------------------------------------------------------

$publisher->safe_psql('postgres', $_) foreach (
	q(SELECT stripe_api('POST', '/v1/customers/cus_ben', '{"email": "new@example.com"}'); SELECT FROM deliver()),
	q(SELECT stripe_api('DELETE', '/v1/customers/cus_emil'); SELECT FROM deliver()),
	q(SELECT stripe_api('POST', '/v1/subscriptions/sub_cleo', '{"cancel_at_period_end": true}'); SELECT FROM deliver()),
	'CALL stripe_portal_tick()', 'SELECT FROM deliver()',
	'SELECT FROM stripe_winback_claim(10) AS c, stripe_winback_sent(c.offer, c.lease)',
	q(UPDATE stripe_portal.access_rule SET allowed = false WHERE flow = 'portal' AND status = 'trialing'),
	q(INSERT INTO stripe_portal.access_rule (flow, status, product, allowed) VALUES ('reports', 'trialing', 'prod_letters', true)),
	q(DELETE FROM stripe_portal.access_rule WHERE flow = 'reports' AND status = 'active'),
	q(UPDATE stripe_portal.decline_code SET class = 'soft', steps = '{call_issuer}' WHERE code = 'do_not_honor'));
same('so is what happens');

# The ledger: failed events are tried again, one is deleted, and months get
# their partitions, from the default one, on one side or the other.
$publisher->safe_psql('postgres', $_) foreach (
	q(SELECT stripe_replay('evt_bad')),
	q(SELECT deliver(format('{"id": "evt_old", "object": "event", "type": "customer.updated", "livemode": false, "created": 1672531200,
		"data": {"object": {"object": "customer", "id": "cus_old"}}}'))));
same('events are tried again, and arrive late');
tend($publisher);
is(place($publisher), 'stripe_portal.event_2023_01', 'an old month gets a partition at the publisher');
same('which is nothing new to the subscriber');
is(place($subscriber), 'stripe_portal.event_default', 'where it has none');
tend($subscriber);
is(place($subscriber), 'stripe_portal.event_2023_01', 'until it takes care of its ledger itself');
$publisher->safe_psql('postgres', $_) foreach (
	q(SELECT stripe_replay('evt_old')),
	q(UPDATE stripe_portal.event SET attempts = attempts + 1 WHERE status = 'applied'),
	q(DELETE FROM stripe_portal.event WHERE id IN ('evt_old', 'evt_bad') OR body IS NOT NULL));
same('rows are found in whatever partition they are');
$publisher->safe_psql('postgres', q(SET stripe_portal.event_retention = 31; SELECT FROM stripe_portal.tend_ledger()));
isnt($publisher->safe_psql('postgres', 'SELECT min(created) FROM stripe_portal.event'), $subscriber->safe_psql('postgres', 'SELECT min(created) FROM stripe_portal.event'),
	'what leaves the publisher\'s ledger with its partition stays at the subscriber');
$subscriber->safe_psql('postgres', q(SET stripe_portal.event_retention = 31; SELECT FROM stripe_portal.tend_ledger()));
same('which has a retention of its own');

# ---------------------------------------------------------------------------
# The subscriber reports, and does nothing
# ---------------------------------------------------------------------------

foreach my $report ('stripe_mrr_bridge(livemode => false)', q(stripe_churn('plan', livemode => false)), q(stripe_decline_report(livemode => false)), 'stripe_portal.explained_failure', 'stripe_portal.access')
{
	my $query = "SELECT r::text FROM $report AS r ORDER BY 1";
	is($subscriber->safe_psql('postgres', $query), $publisher->safe_psql('postgres', $query), "$report says the same");
	isnt($publisher->safe_psql('postgres', $query), '', 'and something');
}
is($subscriber->safe_psql('postgres', q(SELECT stripe_is_active('cus_ada', livemode => false), stripe_is_active('cus_emil', livemode => false))), 't|f', 'it knows who is active');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM handled'), 0, 'no handler was called');
unlike($listener->query_safe('SELECT 1'), qr/notification/, 'no worker was told of an offer');
$listener->quit;
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_subscription_stats WHERE apply_error_count + sync_error_count > 0'), 0, 'nothing failed on the way');

# ---------------------------------------------------------------------------
# The subscriber takes over
# ---------------------------------------------------------------------------

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION stripe');
$subscriber->append_conf('postgresql.conf', $settings);
$subscriber->reload;
my $offers = $subscriber->safe_psql('postgres', 'SELECT count(*) FROM stripe_portal.winback_offer');
is($subscriber->safe_psql('postgres', q(SELECT DISTINCT r.outcome FROM stripe_portal.event AS e, stripe_replay(e.id, e.livemode) AS r WHERE e.status = 'applied')), 'applied', 'it can replay every event');
$subscriber->safe_psql('postgres', 'CALL stripe_portal_tick()');
is($subscriber->safe_psql('postgres', q(SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done')), '', 'the tick goes on there');
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM stripe_portal.winback_offer'), $offers, 'and makes no offer twice');

# Partition by partition, the publisher's work goes on as well.
$publisher->safe_psql('postgres', q(
	DROP PUBLICATION stripe;
	CREATE PUBLICATION parts FOR ALL TABLES;
	UPDATE stripe_portal.event SET attempts = attempts + 1;
	SELECT FROM stripe_portal.tend_ledger()));

$publisher->stop;
$subscriber->stop;
done_testing();

# Both have the same rows, whatever partition they are in; sequences are not
# replicated.
sub same
{
	my ($what) = @_;
	my $rows = q(SET timezone = 'UTC'; SELECT regexp_replace(relation, '_(default|\d{4}_\d\d)$', ''), content FROM contents() WHERE NOT content ? 'is_called' ORDER BY 1, 2);

	$publisher->wait_for_catchup('stripe');
	is($subscriber->safe_psql('postgres', $rows), $publisher->safe_psql('postgres', $rows), $what);
}

# Takes care of the ledger, which moves one month in each run.
sub tend
{
	my ($node) = @_;

	foreach (1 .. 20)
	{
		return if $node->safe_psql('postgres', 'SELECT partition FROM stripe_portal.tend_ledger()') eq '';
	}
}

# The partition of the old event.
sub place
{
	return $_[0]->safe_psql('postgres', q(SELECT tableoid::regclass FROM stripe_portal.event WHERE id = 'evt_old'));
}
