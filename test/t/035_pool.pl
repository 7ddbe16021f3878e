# A pool in transaction mode: many clients take turns on one connection to the
# server.  What one is, asks and is told stays with that one.
#
# SP_SEED repeats a run, as far as the machine does.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_with_stand_in);
use Test::More;
use Time::HiRes qw(usleep);

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $clients = 6;
my $turns = 40;
my $dir = PostgreSQL::Test::Utils::tempdir();

srand($seed);
my ($node) = start_with_stand_in(q(
stripe_portal.gateway_role = 'authenticator'
));
$node->safe_psql('postgres', qq(
	CREATE ROLE authenticator LOGIN NOINHERIT;
	CREATE ROLE web_user; CREATE ROLE web_hook; CREATE ROLE analyst; CREATE ROLE anonymous;
	GRANT web_user, web_hook, analyst, anonymous TO authenticator;
	SELECT stripe_portal_grant('web_user', 'customer'), stripe_portal_grant('web_hook', 'webhook'), stripe_portal_grant('analyst', 'reader');
	SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
	SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
	SELECT FROM generate_series(1, $clients) AS i, stand_in('POST', 'customers', jsonb_build_object('id', 'cus_' || i));
	SELECT FROM generate_series(1, $clients) AS i, stand_in('POST', 'subscriptions', jsonb_build_object('id', 'sub_' || i, 'customer', 'cus_' || i, 'price', 'price_1'));
	CALL stripe_sync();
	-- deliveries that are signed already: who receives has no secret
	CREATE TABLE delivery AS SELECT i, body, stripe_sign_webhook(body, webhook_secret(), now()) AS sig
	FROM generate_series(1, @{[ $clients * $turns ]}) AS i, LATERAL (SELECT jsonb_build_object('id', 'evt_' || i, 'object', 'event', 'type', 'customer.updated',
		'created', 1790000000 + i, 'livemode', false, 'data', jsonb_build_object('object', jsonb_build_object('object', 'customer', 'id', 'cus_pool_' || i)))::text AS body) AS b;
	GRANT SELECT ON delivery TO web_hook;
));

#
# The pool
#
my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$dir/pgbouncer.ini", qq(
[databases]
postgres = host=@{[ $node->host ]} port=@{[ $node->port ]} user=authenticator
[pgbouncer]
listen_addr =
unix_socket_dir = $dir
listen_port = $port
auth_type = any
pool_mode = transaction
default_pool_size = 1
max_db_connections = 1
ignore_startup_parameters = extra_float_digits,options
logfile = $dir/pgbouncer.log
pidfile = $dir/pgbouncer.pid
));
my $bouncer = IPC::Run::start([ -x '/usr/sbin/pgbouncer' ? '/usr/sbin/pgbouncer' : 'pgbouncer', '-q', "$dir/pgbouncer.ini" ]);
END { $bouncer->kill_kill if $bouncer }
my $pool = "host=$dir port=$port dbname=postgres";
for (1 .. 100) { last if system_log('psql', '-XAtq', '-d', $pool, '-c', 'SELECT') == 0; usleep(100_000); }

# Runs a script on the pool; gives what came of it.
sub pooled
{
	my ($script) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $pool ], '<', \$script, '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	return ($out =~ s/\n\z//r, $err);
}

# One transaction as this role, for the user of these claims, as a gateway has it.
sub request
{
	my ($role, $customer, $statement) = @_;
	my $claims = $customer ? qq({"stripe_customer": "$customer"}) : '';

	return "BEGIN;\nSET LOCAL ROLE $role;\nSELECT FROM set_config('request.jwt.claims', '$claims', true);\n$statement;\nCOMMIT;\n";
}

my ($out, $err) = pooled('SELECT pg_backend_pid(), session_user');
my ($server, $user) = split /\|/, $out;
is($user, 'authenticator', 'all log in as one');

#
# One after the other
#
($out) = pooled(request('web_user', 'cus_1', q(SELECT stripe_my_portal_session('https://app.example.com/'))));
like($out, qr/^https:/, 'a customer gets a session');
(undef, $err) = pooled(request('web_user', undef, q(SELECT stripe_my_portal_session('https://app.example.com/'))));
like($err, qr/ERROR:  42501/, 'who comes next without a token is nobody');
(undef, $err) = pooled(request('anonymous', 'cus_1', q(SELECT stripe_my_portal_session('https://app.example.com/'))));
like($err, qr/ERROR:  42501/, 'a role without the capability may not, whatever the claims');
(undef, $err) = pooled(q(SELECT stripe_my_portal_session('https://app.example.com/')));
like($err, qr/ERROR:  42501/, 'nor does the login role itself');
($out, $err) = pooled(request('web_hook', undef, 'SELECT r.outcome FROM delivery, stripe_receive_webhook(body, sig) AS r WHERE i = 1'));
is($out, 'applied', 'a delivery is received');
foreach my $role (qw(web_user web_hook anonymous))
{
	(undef, $err) = pooled(request($role, 'cus_1', 'SELECT count(*) FROM stripe_portal.event'));
	like($err, qr/ERROR:  42501/, "$role does not read the ledger");
}
(undef, $err) = pooled(request('analyst', undef, 'SELECT r.outcome FROM stripe_receive_webhook($$x$$, $$x$$) AS r'));
like($err, qr/ERROR:  42501/, 'who reads does not receive');
($out, $err) = pooled(request('analyst', undef, 'SELECT count(*) FROM stripe_portal.customer'));
is($err, '', 'but reads');

# A transaction that fails half-way leaves nothing either.
(undef, $err) = pooled("BEGIN; SET LOCAL ROLE web_user; SELECT FROM set_config('request.jwt.claims', '{\"stripe_customer\": \"cus_2\"}', true); SELECT 1 / 0; ROLLBACK;");
($out) = pooled(q(SELECT current_user, coalesce(current_setting('request.jwt.claims', true), '')));
is($out, 'authenticator|', 'after an error, neither the role nor the claims are left');

#
# All at once
#
my @runs = map {
	my $i = $_;
	my ($out, $err) = ('', '');
	my $script = join '', map {
		my $n = ($i - 1) * $turns + $_;
		my $what = int rand 4;
		$what == 0 ? request('web_hook', undef, "SELECT 'received ' || r.outcome FROM delivery, stripe_receive_webhook(body, sig) AS r WHERE i = $n")
		  : $what == 1 ? request('analyst', undef, q(SELECT 'sees all ' || (count(DISTINCT c.id) > 1) FROM stripe_portal.customer AS c WHERE c.id IN ('cus_1', 'cus_2')))
		  : request('web_user', "cus_$i", "SELECT 'mine ' || coalesce(string_agg(DISTINCT c.customer, ' '), 'none') FROM stripe_portal.asking_customer() AS c"
			  . ($what == 2 ? ";\nSELECT 'session ' || left(stripe_my_portal_session('https://app.example.com/client_$i'), 6)" : ''))
	} 1 .. $turns;
	{ i => $i, script => \$script, out => \$out, err => \$err, sessions => scalar(() = $script =~ /'session '/g),
	  run => IPC::Run::start([ 'psql', '-XAtq', '-d', $pool ], '<', \$script, '>', \$out, '2>', \$err, IPC::Run::timeout(180)) }
} 1 .. $clients;
$_->{run}->finish foreach @runs;
is(join('', map { ${ $_->{err} } } @runs), '', 'many at once: nobody is refused');
foreach my $run (@runs)
{
	my $i = $run->{i};
	is(join("\n", grep { !/^(received (applied|duplicate)|sees all true|mine cus_$i|session https:)$/ } split /\n/, ${ $run->{out} }), '', "client $i: each answer is its own");
	is($node->safe_psql('postgres', "SELECT count(*), count(*) FILTER (WHERE customer = 'cus_$i') FROM stripe_portal.session WHERE return_url LIKE '%client_$i'"),
		"$run->{sessions}|$run->{sessions}", "client $i: its sessions are of its customer");
}
($out) = pooled('SELECT pg_backend_pid()');
is($out, $server, 'and all of that was one connection');
note "numbers: SP_SEED=$seed, $clients clients, $turns transactions each";

$bouncer->kill_kill;
$node->stop;
done_testing();
