# What is in the tables across a crash, a dump and restore, and on a standby:
# nothing is lost, nothing happens twice, and who can not write says so.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $secret_file = PostgreSQL::Test::Utils::tempdir() . '/webhook_secret';
append_to_file($secret_file, "whsec_ledger\n");
chmod 0600, $secret_file;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
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

# Everything in the extension's tables, and which partition it is in, in one text.
sub contents
{
	my ($n, $db) = @_;
	my @tables = split /\n/, $n->safe_psql($db, q(
		SELECT oid::regclass FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind = 'r' ORDER BY relname));
	return join "\n", map { $n->safe_psql($db, "SELECT '$_', t::text FROM $_ AS t ORDER BY t::text") } @tables;
}

# How the ledger is made: partitions with their bounds, keys, indexes, checks, compression and rights.
sub structure
{
	my ($n, $db) = @_;
	return $n->safe_psql($db, q(
		SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), c.relacl, obj_description(c.oid, 'pg_class'),
			(SELECT string_agg(pg_get_indexdef(indexrelid), E'\n' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = c.oid),
			(SELECT string_agg(conname || pg_get_constraintdef(oid), E'\n' ORDER BY conname) FROM pg_constraint WHERE conrelid = c.oid),
			(SELECT string_agg(format('%s %s %s', attname, attnotnull, attcompression), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)
		FROM pg_class AS c WHERE c.oid = 'stripe_portal.event'::regclass OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'stripe_portal.event'::regclass)
		ORDER BY 1));
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

#
# Dump and restore
#
deliver($node, 'evt_4', 'climate.order.created', 3, '{"object": "climate.order", "id": "climorder_1"}');
deliver($node, 'evt_5', 'customer.created', 3, '{"object": "customer", "id": "cus_bad", "balance": "x"}');
$node->safe_psql('postgres', "SELECT deliver('not json')");
# The ledger has partitions, one of them made ahead, and event_default is not empty either.
is($node->safe_psql('postgres', 'SELECT count(*) FROM stripe_portal.tend_ledger(1); SELECT count(*) FROM stripe_portal.event_partitions()'),
	"3\n3", 'the events of 2023 have a partition');
is($node->safe_psql('postgres', q(SELECT string_agg(DISTINCT tableoid::regclass::text, ' ' ORDER BY tableoid::regclass::text) FROM stripe_portal.event)),
	'stripe_portal.event_2023_11 stripe_portal.event_default', 'which they are in');
$node->safe_psql('postgres', q(
	-- a rule of our own, a rule that is off, and a session of somebody who has lapsed since
	INSERT INTO stripe_portal.access_rule VALUES ('portal', 'a_new_status', true);
	UPDATE stripe_portal.access_rule SET allowed = true WHERE flow = 'access' AND status = 'past_due';
	UPDATE stripe_portal.access_rule SET allowed = false WHERE flow = 'portal' AND status = 'trialing';
	UPDATE stripe_portal.access_rule SET grace = '7 days', cancel_scheduled = false, collection_paused = false, trial = true
		WHERE flow = 'portal' AND status = 'past_due';
	INSERT INTO stripe_portal.access_rule (flow, status, product, allowed) VALUES ('reports', 'active', 'prod_pro', true), ('reports', 'active', 'prod_gone', true);
	DELETE FROM stripe_portal.access_rule WHERE product = 'prod_gone';
	UPDATE stripe_portal.subscription SET status = 'active';
	INSERT INTO stripe_portal.session (livemode, customer, stripe_id) VALUES (true, 'cus_1', 'bps_1');
	INSERT INTO stripe_portal.session (livemode, customer, refused) VALUES (true, 'cus_2', 'customer_unknown');
	-- and one whose token has been used, which it must stay
	INSERT INTO stripe_portal.session (livemode, customer, stripe_id, state, return_until, returned_at, outcome)
		VALUES (true, 'cus_1', 'bps_2', '{"subscriptions": {}}', now() + interval '1 day', now(), '{nothing}');
	UPDATE stripe_portal.subscription SET status = 'canceled';
));

# What roles were given: by capability, and by hand.
$node->safe_psql('postgres', "CREATE ROLE $_; SELECT stripe_portal_grant('$_', '$_')") foreach qw(app webhook reader operator);
$node->safe_psql('postgres', 'GRANT UPDATE ON stripe_portal.access_rule TO operator');

# Who may do what with the extension's objects.
sub rights
{
	my ($n, $db) = @_;
	return $n->safe_psql($db, q(
		SELECT pg_describe_object(d.classid, d.objid, 0), array(SELECT a::text FROM unnest(coalesce(p.proacl, c.relacl, n.nspacl)) AS a ORDER BY 1)
		FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'stripe_portal'
		LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
		LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
		LEFT JOIN pg_namespace AS n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
		WHERE coalesce(p.oid, c.oid, n.oid) IS NOT NULL
		ORDER BY 1;
		SELECT attrelid::regclass, attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid::regclass::text LIKE 'stripe_portal.%' ORDER BY 1, 2));
}

my $dump = $node->backup_dir . '/dump.sql';
my $custom = $node->backup_dir . '/dump.custom';
my $before = contents($node, 'postgres');
my $made = structure($node, 'postgres');
my $rights = rights($node, 'postgres');
like($rights, qr/stripe_portal_session.*app=X/, 'the capabilities are granted');
mkdir $node->backup_dir;
foreach my $format ([ 'plain', $dump ], [ 'custom', $custom ])
{
	$node->command_ok([ 'pg_dump', '-F', $format->[0], '-f', $format->[1], '-d', $node->connstr('postgres') ], "pg_dump, $format->[0]");
}
$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE template0") foreach qw(plain custom parallel prepared sections);
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('plain') ], 'restore with psql');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('custom'), $custom ], 'restore with pg_restore');

$node->command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', $node->connstr('parallel'), $custom ], 'restore with two jobs');
# A database where the extension has been created.
$node->safe_psql('prepared', 'CREATE EXTENSION stripe_portal');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('prepared'), $custom ], 'restore over the fresh extension');
foreach my $section (qw(pre-data data post-data))
{
	$node->command_ok([ 'pg_restore', '--exit-on-error', '--section', $section, '-d', $node->connstr('sections'), $custom ], "restore of $section");
}

foreach my $db (qw(plain custom parallel prepared sections))
{
	is(contents($node, $db), $before, "$db: the tables are the same");
	is(structure($node, $db), $made, "$db: so are the ledger's partitions");
	is(rights($node, $db), $rights, "$db: and who may do what");
	is($node->safe_psql($db, 'SELECT count(*) FROM handled'), 3, "$db: no handler was called by the restore");
	is($node->safe_psql($db, q(SELECT deliver(event('evt_4', 'climate.order.created', 3, '{"object": "climate.order", "id": "climorder_1"}')))), 'duplicate', "$db: a known event is known");
	is($node->safe_psql($db, q(SELECT string_agg(outcome, ' ' ORDER BY id) FROM stripe_portal.event, stripe_replay(id, livemode))),
		'failed applied applied applied ignored failed', "$db: every event can be replayed");
	is($node->safe_psql($db, 'SELECT status FROM stripe_portal.subscription'), 'canceled', "$db: which changes no state");
	is($node->safe_psql($db, 'SELECT count(*) FROM handled'), 3, "$db: and handles nothing twice");
	is($node->safe_psql($db, 'SELECT partition, action FROM stripe_portal.tend_ledger(1)'), '', "$db: the ledger needs no care");
	is($node->safe_psql($db, 'SET stripe_portal.event_retention = 100; SELECT partition, action FROM stripe_portal.tend_ledger(1)'),
		'event_2023_11|dropped', "$db: or takes it");
}
$node->command_ok([ 'pg_dump', '-f', "$dump.again", '-d', $node->connstr('plain') ], 'a dump of the restored database');

unlike(slurp_file($dump), qr/whsec_ledger/, 'no secret is in the dump');

#
# A standby
#
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));

is( $standby->safe_psql(
		'postgres', q(SELECT stripe_is_active('cus_1', livemode => true),
			stripe_verify_webhook('x', stripe_sign_webhook('x', 'whsec_ledger')))),
	'f|t', 'reading and verifying work on a standby');
foreach my $writer (q(stripe_receive_webhook('x', stripe_sign_webhook('x', 'whsec_ledger'))),
	q(stripe_portal_session('cus_1')), q(stripe_portal_open('cus_1')), q(stripe_portal_return('x')), q(stripe_replay('evt_1')),
	q(stripe_portal.tend_ledger()), q(stripe_portal.retry_failed()))
{
	my ($name) = $writer =~ /(\w+)\(/;
	my ($stdout, $stderr);

	$standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT $writer", stdout => \$stdout, stderr => \$stderr);
	like($stderr, qr/25006: cannot execute $name\(\) in a read-only transaction/, "$name says that it can not run there");
}

$standby->stop;

#
# The end
#
$node->safe_psql('plain', 'DROP FUNCTION handle; DROP EXTENSION stripe_portal');
is($node->safe_psql('plain', q(SELECT count(*) FROM pg_class WHERE relname LIKE 'event\_%')), 0,
	'a restored extension is dropped with all of its partitions');

$node->stop;
done_testing();
