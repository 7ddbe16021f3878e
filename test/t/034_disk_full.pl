# The disk is full, where the tables are: Stripe is told that the event was not
# received, nothing of it is left, and it is applied when it is sent again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_with_stand_in);
use Test::More;
use Work qw($work_setup);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $flag = "$dir/full";
system_or_bail($ENV{CC} // 'cc', '-shared', '-fPIC', '-o', "$dir/disk_full.so", 'test/disk_full.c', '-ldl');

my ($node) = do {
	local $ENV{LD_PRELOAD} = "$dir/disk_full.so";
	local $ENV{DISK_FULL} = $flag;
	start_with_stand_in();
};
$node->safe_psql('postgres', $work_setup);
$node->safe_psql('postgres', q(
	-- a delivery that takes some pages
	CREATE FUNCTION large(i integer) RETURNS text LANGUAGE sql AS $$
		SELECT jsonb_build_object('id', 'evt_large_' || i, 'object', 'event', 'type', 'customer.updated', 'created', 1790000000 + i, 'livemode', true, 'data',
			jsonb_build_object('object', jsonb_build_object('object', 'customer', 'id', 'cus_' || i, 'metadata', (
				SELECT jsonb_object_agg(n, md5(concat(i, n))) FROM generate_series(1, 1000) AS n))))::text $$;
	CREATE FUNCTION deliver(i integer) RETURNS text LANGUAGE sql AS $$
		SELECT outcome FROM stripe_receive_webhook(large(i), stripe_sign_webhook(large(i), webhook_secret())) $$;
	SELECT deliver(0)));

# Until there is no room in what there is already.
append_to_file($flag, '');
my ($out, $err);
my $n = 0;
$n++ while $n < 100 && $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT deliver(1 + $n)", stdout => \$out, stderr => \$err) == 0;
note "numbers: $n events found room";
like($err, qr/ERROR:  53100: could not extend file/, 'an event that finds no room is an error, which Stripe is to hear of');
is($node->safe_psql('postgres', "SELECT count(*) FROM stripe_portal.event WHERE id = 'evt_large_' || 1 + $n"), 0, 'it is not in the ledger');
is($node->safe_psql('postgres', "SELECT count(*) FROM stripe_portal.customer WHERE id = 'cus_' || 1 + $n"), 0, 'nor in the state');
is($node->safe_psql('postgres', 'SELECT half_done()'), '', 'nothing is done by halves');
is($node->safe_psql('postgres', "SELECT count(*) FROM stripe_portal.event_failed"), 0, 'and it is not taken for an event that can not be applied');
isnt($node->psql('postgres', "SELECT deliver(1 + $n)"), 0, 'nor the next time');
is($node->safe_psql('postgres', "SELECT stripe_verify_webhook('x', stripe_sign_webhook('x', webhook_secret())), stripe_is_active('cus_0', livemode => true)"),
	't|f', 'what only reads works');

unlink $flag;
is($node->safe_psql('postgres', "SELECT deliver(i) FROM generate_series($n, 1 + $n) AS i"), "duplicate\napplied",
	'with room again, it is applied, and what was received is known');
is($node->safe_psql('postgres', 'SELECT half_done()'), '', 'each was handled once');

$node->stop;
done_testing();
