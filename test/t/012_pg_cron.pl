# The tick as the README schedules it, run by Debian's pg_cron.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_stand_in);
use Test::More;

my ($schedule) = slurp_file('README.md') =~ /^(SELECT cron\.schedule\(.*\);)$/m
  or die 'the README has no line for pg_cron';

my %stand_in = start_stand_in();

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.host = '@{[ $node->host ]}'
stripe_portal.api_base = '$stand_in{url}'
stripe_portal.ca_file = '$stand_in{ca_file}'
stripe_portal.api_key_file = '$stand_in{api_key_file}'
fsync = off
));
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION stripe_portal;
	SELECT stripe_api('POST', '/v1/customers', '{"email": "ada@example.com"}');
));
is($node->safe_psql('postgres', q(SELECT DISTINCT state FROM stripe_portal.tick_status)), 'never run', 'nothing has been done yet');

$node->safe_psql('postgres', $schedule);
ok( $node->poll_query_until('postgres', q(SELECT bool_and(state = 'done') FROM stripe_portal.tick_status)),
	'within the minute, all parts of the tick are done');
is($node->safe_psql('postgres', q(SELECT email FROM stripe_portal.customer)), 'ada@example.com',
	'and an event that was not delivered has arrived');
ok( $node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM cron.job_run_details WHERE status = 'succeeded')),
	'pg_cron has seen it succeed');
is($node->safe_psql('postgres', q(SELECT count(*) FROM cron.job_run_details WHERE status = 'failed')), '0', 'and not fail');

$node->stop;
done_testing();
