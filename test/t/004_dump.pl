# A database with something in every table is dumped and restored, in every way
# that PostgreSQL has: it is the same, nothing happens by it, and nothing happens
# twice afterwards.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Life;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $settings = stand_in_settings();
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', $settings . "fsync = off\nstripe_portal.rate_limit = 1000\nstripe_portal.winback_url = 'https://app.example.com/offer?t={token}'\n");
$node->start;

is(live($node, 'postgres'), '', 'every table has something in it');
$node->safe_psql('postgres', q(
	-- rules of our own, changed rules, one that is off, and one that is gone
	INSERT INTO stripe_portal.access_rule VALUES ('portal', 'a_new_status', true);
	UPDATE stripe_portal.access_rule SET allowed = true WHERE flow = 'access' AND status = 'past_due';
	UPDATE stripe_portal.access_rule SET allowed = false WHERE flow = 'portal' AND status = 'trialing';
	UPDATE stripe_portal.access_rule SET grace = '7 days', cancel_scheduled = false, collection_paused = false, trial = true
		WHERE flow = 'portal' AND status = 'past_due';
	DELETE FROM stripe_portal.access_rule WHERE product = 'prod_letters';
	UPDATE stripe_portal.decline_code SET class = 'soft', steps = '{call_issuer}' WHERE code = 'do_not_honor';
	INSERT INTO stripe_portal.decline_code VALUES ('card', 'a_new_code', 'hard', '{new_method}', false, 'New');
	-- a session whose token has been used, which it must stay
	INSERT INTO stripe_portal.session (livemode, customer, stripe_id, state, return_until, returned_at, outcome)
		VALUES (false, 'cus_ada', 'bps_2', '{"subscriptions": {}}', now() + interval '1 day', now(), '{nothing}');
	CREATE ROLE by_hand;
	GRANT UPDATE ON stripe_portal.access_rule TO by_hand;
	GRANT SELECT (email) ON stripe_portal.customer TO by_hand WITH GRANT OPTION));
$node->safe_psql('postgres', "CREATE ROLE $_; SELECT stripe_portal_grant('$_', '$_')") foreach qw(app customer webhook mailer reader operator);

my $planned = 'SELECT customer, rule FROM stripe_portal.winback_outbox WHERE waits_for IS NULL ORDER BY 1, 2';
my $due = $node->safe_psql('postgres', $planned);
isnt($due, '', 'an offer is due');
my $before = contents($node, 'postgres');
my $made = structure('postgres');
my $rights = rights($node, 'postgres');
like($rights, qr/stripe_portal_session.*app=X/, 'the capabilities are granted');
my $handled = $node->safe_psql('postgres', 'SELECT count(*) FROM handled');
cmp_ok($handled, '>', 0, 'a handler was called');

# ---------------------------------------------------------------------------
# Dumped
# ---------------------------------------------------------------------------

my $dump = $node->backup_dir;
mkdir $dump;
my $from = $node->connstr('postgres');
$node->command_ok([ 'pg_dump', '-Fp', '-f', "$dump/plain", '-d', $from ], 'pg_dump, plain');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump/custom", '-d', $from ], 'pg_dump, custom');
$node->command_ok([ 'pg_dump', '-Fd', '-j4', '-f', "$dump/directory", '-d', $from ], 'pg_dump, a directory by four jobs');
$node->command_ok([ 'pg_dump', '-Fc', '--data-only', '--load-via-partition-root', '-f', "$dump/data", '-d', $from ], 'pg_dump, the data alone');
my $secret = slurp_file($settings =~ /webhook_secret_file = '(.*)'/);
my $key = slurp_file($settings =~ /api_key_file = '(.*)'/);
chomp($secret, $key);
unlike(slurp_file("$dump/plain"), qr/\Q$secret\E|\Q$key\E/, 'no secret is in the dump');
unlike(slurp_file("$dump/plain"), qr{https://billing\.stripe\.com/}, 'nor is a session\'s URL');

# ---------------------------------------------------------------------------
# Restored
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', "CREATE DATABASE $_ TEMPLATE template0") foreach qw(plain custom directory prepared sections data);
$node->safe_psql('postgres', q(SELECT stand_in('reset')));
# who sends offers waits for them in the database that is restored
my $listener = $node->background_psql('custom');
$listener->query_safe('LISTEN stripe_winback');

$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump/plain", '-d', $node->connstr('plain') ], 'restore with psql');
my @restore = ('pg_restore', '--exit-on-error');
$node->command_ok([ @restore, '-d', $node->connstr('custom'), "$dump/custom" ], 'restore with pg_restore');
$node->command_ok([ @restore, '-j4', '-d', $node->connstr('directory'), "$dump/directory" ], 'restore with four jobs');
$node->safe_psql('prepared', 'CREATE EXTENSION stripe_portal');
$node->command_ok([ @restore, '-d', $node->connstr('prepared'), "$dump/custom" ], 'restore over the fresh extension');
foreach my $section (qw(pre-data data post-data))
{
	$node->command_ok([ @restore, '--section', $section, '-d', $node->connstr('sections'), "$dump/custom" ], "restore of $section");
}
# The data of the ledger's months go where there are none; what is outside of
# the extension is there already.
$node->safe_psql('data', q(
	CREATE EXTENSION stripe_portal;
	CREATE TABLE handled (event text);
	CREATE TABLE account (id integer PRIMARY KEY, stripe_customer text);
	CREATE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE sql AS 'INSERT INTO public.handled VALUES (e.id)'));
run_file($node, 'data', 'test/contents.sql');
$node->command_ok([ @restore, '-d', $node->connstr('data'), "$dump/data" ], 'restore of the data alone');

is($node->safe_psql('postgres', q(SELECT count(*) FROM jsonb_array_elements(stand_in('requests', NULL, 'GET') -> 'data'))), 0, 'no request was made to Stripe');
unlike($listener->query_safe('SELECT 1'), qr/notification/, 'nobody was told of anything');
$node->safe_psql('custom', q(NOTIFY stripe_winback, 'listening'));
like($listener->query_safe('SELECT 1'), qr/notification/, 'whoever would be, listened');
$listener->quit;

my $by_root = q(SELECT regexp_replace(relation, '_(default|\d{4}_\d\d)$', ''), content FROM contents() ORDER BY 1, 2);
is($node->safe_psql('data', $by_root), $node->safe_psql('postgres', $by_root), 'data: the tables are the same');
foreach my $db (qw(plain custom directory prepared sections))
{
	is(contents($node, $db), $before, "$db: the tables are the same");
	is(structure($db), $made, "$db: so is everything that the extension is, the ledger's partitions too");
	is(rights($node, $db), $rights, "$db: and who may do what");
	nothing_happens($db);
}
nothing_happens('postgres');
$node->command_ok([ 'pg_dump', '-f', "$dump/again", '-d', $node->connstr('plain') ], 'a dump of the restored database');

# The ledger goes on: care is taken of what was restored.
is($node->safe_psql('plain', 'SET stripe_portal.event_retention = 31; SELECT partition, action FROM stripe_portal.tend_ledger() WHERE action NOT IN ($$dropped$$, $$pruned$$)'),
	'', 'partitions that were restored can be dropped, and those to come are there');
$node->safe_psql('plain', 'DROP FUNCTION handle; DROP EXTENSION stripe_portal');
is($node->safe_psql('plain', q(SELECT count(*) FROM pg_class WHERE relname LIKE 'event\_%')), 0,
	'a restored extension is dropped with all of its partitions');

# ---------------------------------------------------------------------------
# A dump of 1.0.0, restored where 1.0.0 was put first, and brought up to date
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE old TEMPLATE template0; CREATE DATABASE updated TEMPLATE template0');
live($node, 'old', '1.0.0');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump/old", '-d', $node->connstr('old') ], 'pg_dump of 1.0.0');
$node->safe_psql('updated', q(CREATE EXTENSION stripe_portal VERSION '1.0.0'));
$node->command_ok([ @restore, '-d', $node->connstr('updated'), "$dump/old" ], 'restore into 1.0.0');
is(contents($node, 'updated'), contents($node, 'old'), 'the tables are the same');
$node->safe_psql($_, 'ALTER EXTENSION stripe_portal UPDATE') foreach qw(old updated);
is(contents($node, 'updated'), contents($node, 'old'), 'updated, they are what the database itself becomes');
is(structure('updated'), structure('old'), 'and so is everything else');

# ---------------------------------------------------------------------------
# pg_upgrade, from a server to another of the same version
# ---------------------------------------------------------------------------

my $upgraded = PostgreSQL::Test::Cluster->new('upgraded');
$upgraded->init;
$upgraded->append_conf('postgresql.conf', $settings . "fsync = off\n");
$before = contents($node, 'custom');
$rights = rights($node, 'custom');
$made = structure('custom');
$node->stop;
my $bin = $node->config_data('--bindir');
chdir $dump or die "$dump: $!";
command_ok([ 'pg_upgrade', '-b', $bin, '-B', $bin, '-d', $node->data_dir, '-D', $upgraded->data_dir, '-s', $node->host,
		'-p', $node->port, '-P', $upgraded->port, '--username', $ENV{USER} ], 'pg_upgrade');
chdir "$FindBin::RealBin/../.." or die $!;
$upgraded->start;
$node = $upgraded;
is(contents($node, 'custom'), $before, 'pg_upgrade: the tables are the same');
# views come from their text, so that parentheses and names of columns that need none differ
is(bare(structure('custom')), bare($made), 'pg_upgrade: so is everything that the extension is');
is(rights($node, 'custom'), $rights, 'pg_upgrade: and who may do what');

$node->stop;
done_testing();

# Everything the extension is, as test/catalogue.sql tells.
sub structure
{
	my ($db) = @_;

	return run_file($node, $db, 'test/catalogue.sql', '-v', 'seeded={}');
}

sub bare
{
	return $_[0] =~ s/[()]| AS \w+(?=,?$)//gmr;
}

# Whatever is done to make something happen once more, nothing does.
sub nothing_happens
{
	my ($db) = @_;

	is($node->safe_psql($db, 'SELECT count(*) FROM handled'), $handled, "$db: no handler was called");
	is($node->safe_psql($db, q(SELECT DISTINCT r.outcome FROM jsonb_array_elements(stand_in('deliveries', NULL, 'GET') -> 'data') AS d,
		stripe_receive_webhook(d ->> 'payload', d ->> 'signature') AS r)), 'duplicate', "$db: every event is known");
	is($node->safe_psql($db, q(SELECT DISTINCT r.outcome FROM stripe_portal.event AS e, stripe_replay(e.id, e.livemode) AS r WHERE e.status = 'applied')),
		'applied', "$db: every one can be replayed");
	$node->safe_psql($db, 'CALL stripe_portal_tick()');
	is($node->safe_psql($db, q(SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done')), '', "$db: the tick goes on");
	is($node->safe_psql($db, 'SELECT count(*) FROM handled'), $handled, "$db: which calls no handler");
	my $others = q(WHERE relation !~ 'event_|tick_run|sync_cursor');
	is(contents($node, $db, $others), join("\n", grep { !/^stripe_portal\.(event_|tick_run|sync_cursor)/ } split /\n/, $before), "$db: and changes nothing");
	is($node->safe_psql($db, q(SELECT c.customer, c.rule FROM stripe_winback_claim(10) AS c ORDER BY 1, 2)), $due, "$db: what was due is, and nothing else");
}
