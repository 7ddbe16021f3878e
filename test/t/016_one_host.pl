# The key goes to one host only: no setting below superuser, no argument, no
# return URL, no event, no redirect, and nothing around the server's process
# leads anywhere else.
#
# Elsewhere is a socket that takes connections and counts them; everything that
# could lead somewhere leads there.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IO::Select;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_stand_in);
use Test::More;

my $elsewhere = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', Proto => 'tcp')
  or die "could not listen: $!";
my $port = $elsewhere->sockport;
my $there = "127.0.0.1:$port";

my %stand_in = start_stand_in();

# The server's environment and home have proxies, credentials and an rc file.
my $home = PostgreSQL::Test::Utils::tempdir();
append_to_file("$home/.netrc", "default login netrc_user password netrc_password\n");
append_to_file("$home/.curlrc", "proxy = http://$there\n");
$ENV{HOME} = $home;
$ENV{NETRC} = "$home/.netrc";
$ENV{$_} = "http://$there" for qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf(
	'postgresql.conf', qq(
stripe_portal.api_base = '$stand_in{url}'
stripe_portal.ca_file = '$stand_in{ca_file}'
stripe_portal.api_key_file = '$stand_in{api_key_file}'
stripe_portal.webhook_secret_file = '$stand_in{webhook_secret_file}'
stripe_portal.max_retries = 0
stripe_portal.connect_timeout = '5s'
stripe_portal.timeout = '10s'
log_min_messages = panic
fsync = off
));
$node->start;

# An independent client in the same environment goes elsewhere: that counts.
my $client = IO::Socket::INET->new($there);
is(connections(), 1, 'a connection elsewhere is counted');
is($node->safe_psql('postgres', q(CREATE TABLE environment (proxy text); COPY environment FROM PROGRAM 'printenv https_proxy all_proxy'; SELECT DISTINCT proxy FROM environment)),
	"http://$there",
	 'the server has the proxies in its environment');

$node->safe_psql('postgres', q(
	CREATE EXTENSION stripe_portal;
	SELECT stripe_api('POST', '/v1/customers', '{"email": "ada@example.com"}');
	SELECT stripe_api('POST', '/v1/test_helpers/stand_in/customers', '{"id": "cus_1"}');
	SELECT stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
	SELECT stripe_api('POST', '/v1/test_helpers/stand_in/prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
	SELECT stripe_api('POST', '/v1/test_helpers/stand_in/subscriptions', '{"id": "sub_1", "customer": "cus_1", "price": "price_1"}');
	SELECT stripe_refresh('cus_1');
	CREATE ROLE mallory LOGIN;
	GRANT ALL ON SCHEMA public TO mallory;
	SELECT stripe_portal_grant('mallory', c) FROM unnest('{app,webhook,mailer,reader,operator}'::text[]) AS c;
));
is(connections(), 0, 'requests reach the stand-in in spite of them');

# What a path, an id, a header or a host may be made of.
my @hostile = (
	"//$there/v1/customers", "https://$there/v1/customers", "http://$there/", "$there", "\@$there/v1/customers", ":x\@$there/",
	".$there/v1", "/v1/../../$there", "/v1/customers\@$there", "/v1/customers/\@$there", "/v1/customers/..//$there",
	"/v1//$there/x", "/v1\\\@$there", "\\\\$there\\v1", "/v1/customers#\@$there/", "/v1/customers?\@$there/", "/v1/%2F%2F$there",
	"/v1/customers\r\nHost: $there\r\n", "/v1/customers\nHost: $there", "/v1/customers HTTP/1.1\r\nHost: $there\r\n\r\nGET /",
	"\t//$there/", " //$there/", "ftp://$there/", "file:///etc/passwd", "gopher://$there/_x", "//[::ffff:127.0.0.1]:$port/", "//2130706433:$port/",
	"/v1/customers\x{2025}/$there", "localhost:$port/", "/v1/{$there}", "/v1/[$there]", "//$there");

# Each in every place of every function that makes a request; whatever they
# answer, and whatever they raise.
my @places = (
	"stripe_api('GET', \$1)", "stripe_api('POST', \$1, '{\"a\": 1}')", "stripe_api('DELETE', \$1)", "stripe_api(\$1, '/v1/customers')",
	"stripe_api('GET', '/v1/customers', account => \$1)", "stripe_api('POST', '/v1/customers', '{\"email\": \"a\@example.com\"}', idempotency_key => \$1)",
	"stripe_api('GET', '/v1/customers', jsonb_build_object(\$1, \$1))", "stripe_api('GET', '/v1/customers/' || \$1)",
	"count(*) FROM stripe_portal.fetch(ARRAY[\$1])", "count(*) FROM stripe_portal.fetch('{/v1/customers}', NULL, \$1)",
	"stripe_refresh(\$1)", "stripe_refresh('cus_1', \$1)", "stripe_refresh_coupon(\$1)",
	"stripe_portal_session(\$1)", "stripe_portal_session('cus_1', \$1)", "stripe_portal_session('cus_1', 'https://$there/?t={token}')",
	"stripe_portal_session('cus_1', 'https://app.example.com', flow => \$1)",
	"stripe_portal_session('cus_1', 'https://app.example.com', subscription => \$1, flow => 'subscription_cancel')",
	"stripe_portal_session('cus_1', 'https://app.example.com', options => jsonb_build_object('configuration', \$1))",
	"stripe_portal_session('cus_1', 'https://app.example.com', options => jsonb_build_object('account', \$1))",
	"stripe_portal_session('cus_1', 'https://app.example.com', options => jsonb_build_object('locale', \$1))",
	"stripe_portal_configure('c' || md5(\$1), true, false, jsonb_build_object('business_profile', jsonb_build_object('privacy_policy_url', \$1)), return_url => 'https://$there/')"
	  . ", stripe_portal_configuration_apply('c' || md5(\$1))",
	"count(*) FROM stripe_drift(objects => '{customer}', account => \$1)",
	"stripe_portal_return(\$1)", "stripe_winback_open(\$1)", "stripe_resolve_thin(\$1)");
my $hostile = join(', ', map { 'convert_from(\'\\x' . unpack('H*', encode($_)) . "', 'UTF8')" } @hostile);
$node->safe_psql('postgres', q(
	CREATE FUNCTION try(what text, hostile text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE 'SELECT ' || what USING hostile;
		RETURN 'answer';
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE;
	END $$;
	SELECT stripe_api('POST', '/v1/test_helpers/stand_in/reset');
));
foreach my $what (@places)
{
	my $quoted = $what =~ s/'/''/gr;
	my $states = $node->safe_psql('postgres', "SELECT try('$quoted', h) FROM unnest(ARRAY[$hostile]) AS h GROUP BY 1 ORDER BY 1");
	is(connections(), 0, "$what: " . join(', ', split(/\n/, $states)));
}

# Events: thin ones whose object is elsewhere, and fat ones full of URLs.
my $n = 0;
foreach my $url (@hostile, "/v1/customers/cus_1\r\nHost: $there", "/v1/customers/$there", "https://$there\@127.0.0.1/v1/customers/cus_1")
{
	$n++;
	my $hex = unpack('H*', encode($url));
	$node->safe_psql('postgres', qq(
		SELECT outcome FROM (SELECT jsonb_build_object('id', 'evt_$n', 'object', 'v2.core.event', 'type', 'v1.customer.updated', 'livemode', false,
			'created', '2026-11-10T12:00:00Z', 'related_object', jsonb_build_object('id', u, 'type', 'customer', 'url', u))::text
			FROM convert_from('\\x$hex', 'UTF8') AS u) AS p (payload),
			stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_stand_in_secret'));
		SELECT outcome FROM (SELECT jsonb_build_object('id', 'evt_f$n', 'object', 'event', 'type', 'customer.updated', 'livemode', false, 'created', 1700000000 + $n,
			'data', jsonb_build_object('object', jsonb_build_object('id', 'cus_f$n', 'object', 'customer', 'livemode', false, 'name', u, 'email', u, 'url', u,
				'default_source', u, 'invoice_settings', jsonb_build_object('default_payment_method', u), 'metadata', jsonb_build_object('url', u))))::text
			FROM convert_from('\\x$hex', 'UTF8') AS u) AS p (payload),
			stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_stand_in_secret'))));
}
# what they left behind is marked to be read, by ids of their choosing
$node->safe_psql('postgres', q(
	UPDATE stripe_portal.customer SET refetch = true;
	INSERT INTO stripe_portal.coupon (id, livemode, event, event_created, refetch)
	SELECT name, false, '', now(), true FROM stripe_portal.customer WHERE name <> '' ON CONFLICT DO NOTHING;
));
$node->safe_psql('postgres', 'SET client_min_messages = error; CALL stripe_portal_tick()');
is(connections(), 0, 'events: ' . $node->safe_psql('postgres', q(SELECT string_agg(format('%s %s', n, status), ', ' ORDER BY status)
	FROM (SELECT count(*) AS n, status FROM stripe_portal.event WHERE id ~ '^evt_f?[0-9]+$' GROUP BY status) AS s)));

# An answer that says to go elsewhere.
$node->safe_psql('postgres', q(SELECT stripe_api('POST', '/v1/test_helpers/stand_in/fault', '{"kind": "redirect"}')));
is($node->safe_psql('postgres', q(SELECT try('stripe_api(''GET'', ''/v1/customers/cus_1'')', ''))), 'SP502', 'a redirect is refused');
is($node->safe_psql('postgres', q(SELECT count(*) FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r
	WHERE r ->> 'path' LIKE '%redirected%')), '0', 'and not followed');

# Whatever arrived at the stand-in is a request of ours: below /v1/, to the
# base's host, with the key, and nothing of the files around the server.
my ($host) = $stand_in{url} =~ m{^https://(.*)};
is($node->safe_psql('postgres', qq(SELECT count(*) FROM jsonb_array_elements(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data') AS r
	WHERE r ->> 'path' !~ '^/v1/[A-Za-z0-9_%]' OR r ->> 'path' ~ '[[:space:]]|\\.\\.'
	   OR r #>> '{headers,host}' IS DISTINCT FROM '$host' OR r #>> '{headers,authorization}' IS DISTINCT FROM 'Bearer secret' OR r::text LIKE '%netrc_%')),
	'0', 'every request that arrived was to the base');
isnt($node->safe_psql('postgres', q(SELECT jsonb_array_length(stripe_api('GET', '/v1/test_helpers/stand_in/requests') -> 'data'))),
	'0', 'and some did arrive');

# Settings: a role that may do all that can be granted sets none of those that
# say where to go.
foreach my $setting (qw(api_base ca_file api_key_file api_key api_version return_url return_hosts winback_url gateway_role customer_claim refresh_unknown
	webhook_secret webhook_secret_file tolerance))
{
	my ($status) = $node->psql('postgres', "LOAD_IT; SET stripe_portal.$setting = 'https://$there'" =~ s/LOAD_IT/SELECT stripe_is_active('x')/r,
		extra_params => [ '-U', 'mallory' ], on_error_stop => 1);
	is($status, 3, "stripe_portal.$setting is not hers to set");
}
# before the library is loaded, they can be set, but not used
my $said = $node->safe_psql('postgres', qq(SET client_min_messages = error; SET stripe_portal.api_base = 'https://$there'; SET stripe_portal.ca_file = '$home/ca';
	SELECT stripe_refresh('cus_1') > 0; SHOW stripe_portal.api_base), extra_params => [ '-U', 'mallory' ]);
is($said, "t\n$stand_in{url}", 'nor before the library is loaded');
is(connections(), 0, 'nobody was led elsewhere');

$node->stop;
done_testing();

# How many connections came since the last time.
sub connections
{
	my $count = 0;

	while (IO::Select->new($elsewhere)->can_read(0.05))
	{
		my $connection = $elsewhere->accept;

		$count++;
		close $connection;
	}
	return $count;
}

sub encode
{
	my ($text) = @_;

	utf8::encode($text);
	return $text;
}
