# The transport under a server that hangs, a server that goes away, and ten
# thousand calls: interrupts take effect in every phase of a request, one
# connection serves many calls, and nothing grows.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_stand_in);
use Test::More;
use Time::HiRes qw(time usleep);

# What hangs does so for 20 seconds; what is interrupted is promised to end
# within a tenth of one.  The bound leaves room for a busy machine.
my $bound = 2;

#
# The stand-in, a name server that hangs, and a server that uses them
#
my %stand_in = start_stand_in();

my $slow_dns = PostgreSQL::Test::Utils::tempdir() . '/slow_dns.so';
system_or_bail($ENV{CC} // 'cc', '-shared', '-fPIC', '-o', $slow_dns,
	'test/slow_dns.c', '-ldl');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
stripe_portal.api_base = '$stand_in{url}'
stripe_portal.ca_file = '$stand_in{ca_file}'
stripe_portal.api_key_file = '$stand_in{api_key_file}'
));
start_node();
$node->safe_psql('postgres', 'CREATE EXTENSION stripe_portal');

#
# Interrupts in every phase
#
my %phases = (
	'name lookup' => { base => 'https://x.hang.test' },
	'TLS' => { base => $stand_in{hang_url} },
	'first byte' => { fault => 'slow_first_byte' },
	'body' => { fault => 'slow_body' },
	'retry wait' => { fault => 'rate_limited' },
	'several in flight' => {
		fault => 'slow_body',
		query => q(SELECT stripe_portal.fetch('{/v1/customers, /v1/products, /v1/customers/cus_1, /v1/prices}'))
	});

foreach my $phase (sort keys %phases)
{
	foreach my $interrupt (qw(statement_timeout cancel terminate))
	{
		my $call = start_call($phases{$phase}, $interrupt);
		my $since = $call->{since};

		if ($interrupt ne 'statement_timeout')
		{
			my $function = "pg_${interrupt}_backend";

			$since = time;
			$node->safe_psql('postgres', "SELECT $function($call->{pid})");
		}
		my $errors = finish_call($call);
		my $seconds = time - $since;

		like(
			$errors,
			{   statement_timeout => qr/canceling statement due to statement timeout/,
				cancel => qr/canceling statement due to user request/,
				terminate => qr/terminating connection due to administrator command/
			}->{$interrupt},
			"$phase: $interrupt is what ended the call");
		like($errors, qr/Stripe request GET \/v1\/customers/, "$phase: $interrupt tells which request");
		cmp_ok($seconds, '<', $bound, "$phase: $interrupt takes effect at once");
		ok(is_gone($call->{pid}), "$phase: the backend is gone") if $interrupt eq 'terminate';
		note sprintf('%s, %s: %.0f ms', $phase, $interrupt, $seconds * 1000);
	}
}

# A session goes on after each of them, and what was left of the old answer is
# not taken for the new one.
my ($stdout, $stderr);
foreach my $phase (sort keys %phases)
{
	set_fault($phases{$phase});
	$node->psql(
		'postgres', qq(
		SET statement_timeout = '100ms';
		SET stripe_portal.api_base = '@{[ $phases{$phase}{base} // $stand_in{url} ]}';
		SELECT stripe_api('GET', '/v1/customers');
		RESET statement_timeout;
		RESET stripe_portal.api_base;
		SELECT stripe_api('GET', '/v1/events', '{"limit": 1}') ->> 'url';
		), stdout => \$stdout, stderr => \$stderr, on_error_stop => 0);
	is($stdout, '/v1/events', "$phase: the session can go on");
}

# The timeouts of our own say where the time went.
foreach my $case (
	[ 'name lookup', "looking up the host's name", '08001' ],
	[ 'TLS', 'setting up TLS', '08001' ],
	[ 'first byte', 'waiting for the answer', '08006' ],
	[ 'body', 'reading the answer', '08006' ])
{
	my ($phase, $words, $code) = @$case;

	set_fault($phases{$phase});
	$node->psql(
		'postgres', qq(
		\\set VERBOSITY verbose
		SET stripe_portal.timeout = '300ms';
		SET stripe_portal.max_retries = 0;
		SET stripe_portal.api_base = '@{[ $phases{$phase}{base} // $stand_in{url} ]}';
		SELECT stripe_api('GET', '/v1/customers');
		), stdout => \$stdout, stderr => \$stderr);
	like($stderr, qr/$code: request to "[^"]*" timed out while $words/, "$phase: timeout says so");
}

#
# Shutdown and restart while a request hangs
#
my $call = start_call($phases{'name lookup'}, 'shutdown');
my $since = time;
$node->stop('fast');
cmp_ok(time - $since, '<', $bound + 3, 'a hanging request does not hold up a shutdown');
finish_call($call);
start_node();

$call = start_call($phases{'first byte'}, 'postmaster death');
$node->kill9;
$since = time;
finish_call($call);
cmp_ok(time - $since, '<', $bound, 'a hanging request does not outlive the postmaster');
ok(is_gone($call->{pid}), 'the backend is gone');
start_node();
is($node->safe_psql('postgres', q(SELECT stripe_api('GET', '/v1/customers') ->> 'object')),
	'list', 'requests work after a restart');

#
# Connections
#
my $control = '/v1/test_helpers/stand_in';
my $connections = qq(
	SELECT count(DISTINCT request -> 'connection')
	FROM jsonb_array_elements(stripe_api('GET', '$control/requests') -> 'data') AS request;);
my $reset = qq(SELECT NULL FROM stripe_api('POST', '$control/reset'););

is( $node->safe_psql(
		'postgres', qq($reset
		SELECT count(stripe_api('GET', '/v1/customers')) FROM generate_series(1, 50);
		SELECT count(stripe_api('POST', '/v1/customers')) FROM generate_series(1, 50);
		$connections)),
	"\n50\n50\n1", 'one connection serves many calls');
is( $node->safe_psql(
		'postgres', qq($reset
		SELECT stripe_api('GET', '/v1/customers') ->> 'object';
		SET stripe_portal.ca_file = '$stand_in{dir}/../@{[ (split '/', $stand_in{dir})[-1] ]}/ca.pem';
		SELECT stripe_api('GET', '/v1/customers') ->> 'object';
		SET stripe_portal.api_base = '@{[ $stand_in{url} =~ s/127\.0\.0\.1/localhost/r ]}';
		SELECT stripe_api('GET', '/v1/customers') ->> 'object';
		$connections)),
	"\nlist\nlist\nlist\n3", 'a connection serves one base and one set of authorities');

#
# Ten thousand calls, a good part of them failing in all sorts of ways
#
SKIP:
{
	skip 'no /proc to look at', 4 unless -d '/proc/self/fd';

	# Threads that libcurl has for name lookups go when they have been idle for a while.
	my $usage = q(
		DO $$
		BEGIN
			FOR i IN 1..200 LOOP
				EXIT WHEN (SELECT count(*) FROM pg_ls_dir('/proc/self/task')) = 1;
				PERFORM pg_sleep(0.1);
			END LOOP;
		END $$;
		SELECT (SELECT count(*) FROM pg_ls_dir('/proc/self/fd')),
			   (SELECT count(*) FROM pg_ls_dir('/proc/self/task')),
			   split_part(pg_read_file('/proc/self/statm', 0, 100), ' ', 2)::int * 4;);

	$node->safe_psql(
		'postgres', qq(
		CREATE PROCEDURE calls(n int, INOUT answers int, INOUT errors int)
		LANGUAGE plpgsql AS \$\$
		BEGIN
			FOR i IN 1..n LOOP
				BEGIN
					PERFORM set_config('stripe_portal.api_base', CASE i % 20
						WHEN 0 THEN 'https://127.0.0.1:1' WHEN 1 THEN '$stand_in{untrusted_url}'
						WHEN 2 THEN 'https://x.fail.test' ELSE '$stand_in{url}' END, false);
					PERFORM stripe_api('GET', CASE i % 5
						WHEN 3 THEN '/v1/customers/cus_nobody' WHEN 4 THEN '/v1/products' ELSE '/v1/customers' END);
					answers := answers + 1;
				EXCEPTION WHEN OTHERS THEN
					errors := errors + 1;
				END;
			END LOOP;
		END \$\$;
		SELECT stripe_api('POST', '$control/reset', '{"state": true}');
		SELECT stripe_api('POST', '$control/fault', '{"kind": "close", "path": "/v1/products", "times": 1000000}');
		));
	my $lines = $node->safe_psql(
		'postgres', qq(
		SET stripe_portal.max_retries = 0;
		CALL calls(1000, 0, 0);
		$usage
		CALL calls(10000, 0, 0);
		$usage));
	my (undef, $before, $counts, $after) = split /\n/, $lines;
	my @before = split /\|/, $before;
	my @after = split /\|/, $after;

	is($counts, '4500|5500', 'ten thousand calls answered or failed as meant');
	is($after[0], $before[0], 'no descriptor stays open');
	is($after[1], $before[1], 'no thread stays behind');
	# 50 bytes lost per call would show
	cmp_ok($after[2] - $before[2], '<', 500, 'memory does not grow');
	note "numbers: descriptors $before[0] -> $after[0], threads $before[1] -> $after[1], resident $before[2] kB -> $after[2] kB";
}

$node->stop;
done_testing();

# Starts the server, with the bad name server in it.
sub start_node
{
	local $ENV{LD_PRELOAD} = $slow_dns;
	$node->start;
	return;
}

# Makes the stand-in misbehave once, if that is what the phase needs.
sub set_fault
{
	my ($phase) = @_;

	$node->safe_psql('postgres', q(SELECT stripe_api('POST', '/v1/test_helpers/stand_in/reset')));
	$node->safe_psql(
		'postgres', qq(
		SELECT stripe_api('POST', '/v1/test_helpers/stand_in/fault',
						  '{"kind": "$phase->{fault}", "path": "/v1/customers", "seconds": 20, "retry_after": 20}'))
	) if $phase->{fault};
	return;
}

# Starts a call that hangs in this phase, and waits until it does.
sub start_call
{
	my ($phase, $interrupt) = @_;
	my %call = (stdout => '', stderr => '');
	my $timeout = $interrupt eq 'statement_timeout' ? '1s' : '0';
	my $base = $phase->{base} // $stand_in{url};

	set_fault($phase);
	$call{psql} = IPC::Run::start(
		[   'psql', '-XAtq', '-d', $node->connstr('postgres'),
			'-c', "SET stripe_portal.api_base = '$base'",
			'-c', "SET statement_timeout = '$timeout'",
			'-c', 'SELECT pg_backend_pid()',
			'-c', $phase->{query} // q(SELECT stripe_api('GET', '/v1/customers'))
		],
		'>', \$call{stdout}, '2>', \$call{stderr}, IPC::Run::timeout(60));
	$call{psql}->pump until $call{stdout} =~ /^(\d+)$/m;
	$call{pid} = $call{stdout} =~ s/\s//gr;

	$node->poll_query_until(
		'postgres', qq(
		SELECT wait_event_type = 'Extension' AND query LIKE 'SELECT stripe_%'
		FROM pg_stat_activity WHERE pid = $call{pid})
	) or die 'the call does not wait';

	# Let it come to where it hangs; a timeout counts from when it struck.
	usleep(300_000);
	$call{since} = time;
	if ($interrupt eq 'statement_timeout')
	{
		my $began = $node->safe_psql('postgres',
			"SELECT extract(epoch FROM query_start) FROM pg_stat_activity WHERE pid = $call{pid}");

		$call{since} = $began + 1 if $began;
	}
	return \%call;
}

# Waits for the end of a call, and gives what psql had to say.
sub finish_call
{
	my ($call) = @_;

	$call->{psql}->finish;
	return $call->{stderr};
}

# Is the process gone, or is it within the time allowed?
sub is_gone
{
	my ($pid) = @_;

	for (1 .. $bound * 100)
	{
		return 1 unless kill 0, $pid;
		usleep(10_000);
	}
	return 0;
}
