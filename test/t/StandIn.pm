# A Stripe stand-in, and a server with the extension in it that asks it.

package StandIn;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use Time::HiRes qw(usleep);

our @EXPORT_OK = qw(start_stand_in start_with_stand_in wait_until_up);

# The stand-in ends with the test, however that ends: closing the pipe waits for it.
my ($pid, $ready);

END
{
	if ($pid)
	{
		my $status = $?;
		kill 'TERM', $pid;
		close $ready;
		$? = $status;
	}
}

# The stand-in's addresses, and the files with what it takes for secrets.
sub start_stand_in
{
	$pid = open($ready, '-|', 'python3', 'test/stripe_stand_in.py') or die "could not start the stand-in: $!";
	my $addresses = <$ready> // die 'the stand-in did not start';

	return $addresses =~ /"(\w+)": "([^"]*)"/g;
}

# start_with_stand_in(CONFIGURATION): the node, and what start_stand_in gives.
sub start_with_stand_in
{
	my ($configuration) = @_;
	my %stand_in = start_stand_in();

	my $node = PostgreSQL::Test::Cluster->new('main');
	$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
	$node->append_conf('postgresql.conf', qq(
fsync = off
stripe_portal.api_base = '$stand_in{url}'
stripe_portal.ca_file = '$stand_in{ca_file}'
stripe_portal.api_key_file = '$stand_in{api_key_file}'
stripe_portal.webhook_secret_file = '$stand_in{webhook_secret_file}'
stripe_portal.rate_limit = 1000
) . ($configuration // ''));
	$node->start;
	$node->safe_psql('postgres', q(
		CREATE EXTENSION stripe_portal;
		CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb
		LANGUAGE sql AS $$ SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
		CREATE FUNCTION webhook_secret() RETURNS text LANGUAGE sql AS $$
			SELECT trim(E'\n' FROM pg_read_file(current_setting('stripe_portal.webhook_secret_file'))) $$;
	));
	return ($node, %stand_in);
}

# wait_until_up(NODE): until a server that lost a backend lets somebody in again.
# poll_query_until is not for that: it fails if psql ends before it was told the query.
sub wait_until_up
{
	my ($node) = @_;

	foreach (1 .. 3000)
	{
		return if IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SELECT 1' ], '>', '/dev/null', '2>', '/dev/null');
		usleep(20_000);
	}
	die 'the server does not come back';
}

1;
