# Secrets are planted, and everything is done that there is to do with them, by a
# server that logs all it can.  Then they are looked for: in the log, in what
# other roles can see, in every table, in dumps, and in the files of the server.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use Life;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $stand_in = stand_in_settings();
# The stand-in knows one key; what was rolled is below it, and is not sent.
my %secret = (
	'the API key' => 'sk_test_stand_in_key',
	'an API key that was rolled' => 'sk_test_planted_rolled_9QxZ',
	'an API key that is sent elsewhere' => 'rk_test_planted_echo_7LmK',
	'the webhook secret' => 'whsec_stand_in_secret',
	'a webhook secret that was rolled' => 'whsec_planted_rolled_3VbN',
	'a secret in a file that others can read' => 'sk_test_planted_open_5TgH',
	'the URL of a portal session' => 'https://billing.stripe.com/p/session/');

secret_file('key', $secret{'the API key'}, $secret{'an API key that was rolled'});
secret_file('echo', $secret{'an API key that is sent elsewhere'});
secret_file('webhook', $secret{'the webhook secret'}, $secret{'a webhook secret that was rolled'});
secret_file('open', $secret{'a secret in a file that others can read'});
chmod 0644, "$dir/open" or die;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', $stand_in . qq(
shared_preload_libraries = 'pg_stat_statements, auto_explain'
stripe_portal.api_key_file = '$dir/key'
stripe_portal.webhook_secret_file = '$dir/webhook'
stripe_portal.winback_url = 'https://app.example.com/offer?t={token}'
stripe_portal.rate_limit = 1000
log_min_messages = debug5
log_min_error_statement = debug5
log_error_verbosity = verbose
log_statement = all
log_duration = on
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
log_lock_waits = on
debug_print_parse = off
track_activity_query_size = 100kB
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_verbose = on
auto_explain.log_settings = on
));
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements; CREATE ROLE stranger; CREATE ROLE watcher IN ROLE pg_monitor');
my $said = '';                    # by errors, to whoever asked

# ---------------------------------------------------------------------------
# All there is to do
# ---------------------------------------------------------------------------
live($node, 'postgres');

# Sessions, whose URLs and tokens nobody but the caller gets.
my @opened = split /\n/, $node->safe_psql('postgres', q(
	SELECT stripe_portal_session('cus_dora', 'https://app.example.com/back?t={token}');
	SELECT url FROM stripe_portal_open('cus_dora', 'https://app.example.com/back?t={token}', 'payment_method_update', options =>
		'{"flow_data": {"after_completion": {"type": "redirect", "redirect": {"return_url": "https://app.example.com/done?t={token}"}}}}');
	SELECT link FROM stripe_winback_claim(10) WHERE link IS NOT NULL;
	SELECT DISTINCT way #>> '{}' FROM jsonb_array_elements(public.stand_in('requests', NULL, 'GET') -> 'data') AS r,
		jsonb_path_query(r, 'strict $.**.return_url') AS way WHERE way #>> '{}' LIKE '%t=%';
	));
my @tokens = map { /[?&]t=([^&]+)/ ? $1 : () } @opened;
is(scalar(grep { m{^https://billing\.stripe\.com/p/session/} } @opened), 2, 'sessions were opened');
cmp_ok(scalar(@tokens), '>', 3, 'tokens were made, for the way back and for an offer');
$secret{"token $_"} = $tokens[$_] foreach 0 .. $#tokens;

# They come back with one.  The token is an argument then: the caller's statement
# is left out of the log, and nothing else in the log may have it.
my $unlogged = "SET log_statement = 'none'; SET log_min_error_statement = panic; SET log_parameter_max_length = 0;
	SET auto_explain.log_min_duration = -1; SET log_min_duration_statement = -1;\n";
my ($return, $offer) = ((grep { $_ =~ m{/back\?t=} } @opened)[0], (grep { m{/offer\?t=} } @opened)[0]);
$_ = s/.*t=//r foreach $return, $offer;
like($node->safe_psql('postgres', $unlogged . "SELECT outcome FROM stripe_portal_return('$return')"), qr/./, 'a customer comes back');
my ($status, $stdout, $stderr) = $node->psql('postgres', $unlogged . "SELECT stripe_portal_return('$return')");
like($stderr, qr/token refused/, 'once');
unlike($stderr, qr/\Q$return\E/, 'and the error does not repeat the token');
like($node->safe_psql('postgres', $unlogged . "SELECT stripe_winback_open('$offer')"), qr{^https://billing}, 'a customer takes an offer');

# Stripe tells of them in its events; to a session that plans its statements for
# the first time, and so with what is in them.
is( $node->safe_psql('postgres', $unlogged . q(
		SELECT r.outcome FROM jsonb_array_elements(public.stand_in('deliveries', '{"type": "billing_portal.session.created", "limit": 1}', 'GET') -> 'data') AS d,
			stripe_receive_webhook(d ->> 'payload', d ->> 'signature') AS r)),
	'ignored', 'an event of a session is received');
is($node->safe_psql('postgres', 'CALL stripe_portal_tick(); SELECT part, error FROM stripe_portal.tick_status WHERE error IS NOT NULL'), '', 'and read from the list of them');

# Bad deliveries: forged, stale, no header, an empty secret's.
foreach my $sig ("'t=1,v1=abc'", 'NULL', q(stripe_sign_webhook('{}', 'whsec_of_somebody')), q(public.stand_in('sign', '{"payload": "{}", "timestamp": 1}') ->> 'signature'))
{
	($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT stripe_receive_webhook('{}', $sig)");
	like($stderr, qr/SPW01/, "refused: $sig");
	said($stderr);
}

# Errors of Stripe's, and of a server that repeats the key wherever it can.
my $echo = echo_server();
foreach my $call ("stripe_api('GET', '/v1/customers')", "stripe_api('POST', '/v1/customers', '{\"name\": \"x\"}')", "stripe_refresh('cus_dora')",
	"stripe_portal_configuration_diff('standard')", "stripe_portal.fetch('{/v1/customers}')")
{
	foreach my $how (qw(400 401 402 403 404 409 429 500 body html redirect))
	{
		($status, $stdout, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose
			SET stripe_portal.api_key_file = '$dir/echo';
			SET stripe_portal.api_base = 'http://127.0.0.1:$echo->{port}';
			SET stripe_portal.api_version = '$how';
			SET stripe_portal.max_retries = 0;
			SELECT $call IS NULL", on_error_stop => 0);
		said($stdout . $stderr);
	}
}
($status, $stdout, $stderr) = $node->psql('postgres', "
	SET stripe_portal.api_key_file = '$dir/open';
	SELECT stripe_api('GET', '/v1/customers')");
like($stderr, qr/can be accessed by other users/, 'a file that others can read is refused');
said($stderr);

# A call that hangs, looked at by others, and canceled.
$node->safe_psql('postgres', q(SELECT public.stand_in('fault', '{"kind": "slow_first_byte", "path": "/v1/customers", "seconds": 20}')));
my $hanging = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q(SELECT stripe_refresh('cus_dora')) ], '2>', \my $hung);
$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT stripe_refresh%' AND wait_event_type = 'Extension'))
  or die 'the call does not wait';
my $seen = seen_by_others();
$node->safe_psql('postgres', q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT stripe_refresh%'));
$hanging->finish;
said($hung);
like($hung, qr/canceling statement/, 'a call was canceled');

# ---------------------------------------------------------------------------
# Rotation, without a restart, in a session that goes on
# ---------------------------------------------------------------------------
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $ask = sub {
	my ($query) = @_;
	$session->{stderr} = '';
	return $session->query($query);
};
my $verify = sub {
	my ($file) = @_;
	return $ask->("SELECT stripe_verify_webhook('{}', stripe_sign_webhook('{}', trim(E'\\n' FROM pg_read_file('$dir/$file'))))");
};
secret_file('old', $secret{'a webhook secret that was rolled'});
secret_file('new', $secret{'the webhook secret'});
is($verify->('old') . $verify->('new'), 'tt', 'two webhook secrets are valid while one is rolled');
secret_file('webhook', $secret{'the webhook secret'});
is($verify->('old') . $verify->('new'), 'ft', 'one that is no longer in the file is not');

my $token = $node->safe_psql('postgres', q(
	SELECT NULL FROM stripe_portal_session('cus_dora', 'https://app.example.com/rolled?t={token}');
	SELECT r #>> '{params,return_url}' FROM jsonb_array_elements(public.stand_in('requests', NULL, 'GET') -> 'data') AS r
	WHERE r #>> '{params,return_url}' LIKE '%/rolled?t=%')) =~ s/.*t=//sr;
$secret{'a token of a key that was rolled'} = $token;
secret_file('key', $secret{'an API key that was rolled'}, $secret{'the API key'});
like($ask->($unlogged . "SELECT outcome FROM stripe_portal_return('$token')"), qr/./, 'a token of the key before still works');
$ask->('RESET ALL');
unlike($ask->(q(SELECT stripe_api('GET', '/v1/customers'))), qr/list/, 'and the new key is the one that is sent');
secret_file('key', $secret{'the API key'});
like($ask->(q(SELECT stripe_api('GET', '/v1/customers') ->> 'object')), qr/list/, 'a changed file counts from the next call on');
chmod 0644, "$dir/key";
unlike($ask->(q(SELECT stripe_api('GET', '/v1/customers') ->> 'object')), qr/list/, 'and so does a changed mode');
chmod 0600, "$dir/key";
secret_file('elsewhere', $secret{'the API key'});
rename "$dir/key", "$dir/key_moved";
$node->append_conf('postgresql.conf', "stripe_portal.api_key_file = '$dir/elsewhere'");
$node->reload;
ok($node->poll_query_until('postgres', q(SELECT current_setting('stripe_portal.api_key_file') LIKE '%/elsewhere')), 'a reload');
like($ask->(q(SELECT stripe_api('GET', '/v1/customers') ->> 'object')), qr/list/, 'takes another file');
$session->quit;

# ---------------------------------------------------------------------------
# Looking for them
# ---------------------------------------------------------------------------

# What has to be found where it was put, or else nothing could be.
my $canary = 'canary_in_the_mine';
$node->safe_psql('postgres', "CREATE TABLE cage AS SELECT '$canary'::text AS bird; SELECT 1 AS $canary");
my %place = (
	'what other roles see' => $seen . seen_by_others(),
	'pg_stat_statements' => $node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements'),
	'the tables' => $node->safe_psql('postgres', q(
		SELECT format('SELECT t::text FROM %s AS t', oid::regclass) FROM pg_class WHERE relkind IN ('r', 'm') ORDER BY 1 \\gexec)),
	'pg_dump' => dump_of('pg_dump', '-d', $node->connstr('postgres')),
	'pg_dumpall' => dump_of('pg_dumpall', '-d', $node->connstr('postgres')));
$node->stop;
$place{'the log'} = slurp_file($node->logfile);

foreach my $where ('pg_stat_statements', 'the tables', 'pg_dump', 'pg_dumpall', 'the log')
{
	ok(index($place{$where}, $canary) >= 0, "$where: what is there is found");
}
ok(in_files($canary), 'the files of the server: what is there is found');
foreach my $what (sort keys %secret)
{
	my @found = grep { index($place{$_}, $secret{$what}) >= 0 } sort keys %place;
	push @found, map { "file $_" } in_files($secret{$what});
	is("@found", '', "nowhere: $what");
}
note sprintf 'numbers: %d secrets, %.1f MB of log', scalar(keys %secret), length($place{'the log'}) / 1e6;
done_testing();

# Writes a file of secrets, one in each line, for the server alone.
sub secret_file
{
	my ($name, @secrets) = @_;

	open my $file, '>', "$dir/$name.new" or die;
	chmod 0600, "$dir/$name.new";
	print $file "$_\n" foreach @secrets;
	close $file;
	rename "$dir/$name.new", "$dir/$name" or die;
	return;
}

# What an error said is part of what others may see.
sub said
{
	my ($text) = @_;

	$said .= $text;
	return;
}

# What a role without rights, and one that may see all statistics, can see.
sub seen_by_others
{
	my $seen = $said;

	foreach my $role (qw(stranger watcher))
	{
		my ($status, $stdout, $stderr) = $node->psql('postgres', "
			SELECT stripe_portal.form_encode('{}');
			SET ROLE $role;
			SELECT * FROM pg_settings;
			SHOW ALL;
			SHOW stripe_portal.api_key;
			SHOW stripe_portal.webhook_secret;
			SELECT * FROM pg_stat_activity;
			SELECT * FROM pg_stat_statements;
			SELECT * FROM pg_db_role_setting;
			SELECT * FROM pg_file_settings;
			EXPLAIN (SETTINGS, VERBOSE) SELECT 1;", on_error_stop => 0);
		$seen .= $stdout . $stderr;
	}
	return $seen;
}

sub dump_of
{
	my ($stdout, $stderr);

	IPC::Run::run([@_], '>', \$stdout, '2>', \$stderr) or die $stderr;
	return $stdout;
}

# The files of the data directory, WAL included, that hold a text.
sub in_files
{
	my ($text) = @_;
	my $stdout = '';

	IPC::Run::run([ 'grep', '-rlaF', '--', $text, $node->data_dir ], '>', \$stdout);
	return split /\n/, $stdout =~ s/^\Q@{[ $node->data_dir ]}\E\///gmr;
}

# A server in the place of Stripe's that puts the key it was sent into whatever
# it answers.  How is what it is asked for as Stripe-Version.
sub echo_server
{
	append_to_file("$dir/echo.py", <<'PYTHON');
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        how, key = self.headers['Stripe-Version'], self.headers['Authorization'].split()[-1]
        words = f'You sent {key}, {key}{key} and Bearer {key}'
        error = {'error': {'message': words, 'type': key, 'code': key, 'param': key, 'decline_code': key, 'request_log_url': key, 'doc_url': key}}
        body = {'body': '{"' + key, 'html': f'<h1>{key}</h1>', 'redirect': key}.get(how) or json.dumps(error)
        self.send_response({'body': 200, 'html': 200, 'redirect': 302}.get(how) or int(how))
        self.send_header('Content-Length', str(len(body)))
        self.send_header('Request-Id', key)
        self.send_header('Location', f'https://{key}.example.com/')
        self.end_headers()
        self.wfile.write(body.encode())
    do_GET = do_POST = do_DELETE = answer
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
	my %echo;
	$echo{pid} = open($echo{ready}, '-|', 'python3', "$dir/echo.py") or die;
	chomp($echo{port} = readline $echo{ready});
	return \%echo;
}

END
{
	my $status = $?;
	if ($echo)
	{
		kill 'TERM', $echo->{pid};
		close $echo->{ready};
	}
	$? = $status;
}
