# A streaming standby: whatever only reads works there, whatever writes says that
# it can not, before anything leaves for Stripe.  Every function for users is in
# one of the two lists.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Life;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What reads, and a bit of what it has to say.
my %reads = (
	'stripe_amount' => [ q(SELECT stripe_amount(900, 'eur')), qr/9\.00/ ],
	'stripe_api' => [ q(SELECT stripe_api('GET', '/v1/customers/cus_ada') ->> 'id'), qr/cus_ada/ ],
	'stripe_at_risk' => [ q(SELECT count(*) FROM stripe_at_risk()), qr/^\d+$/ ],
	'stripe_cancel_comments' => [ q(SELECT count(*) FROM stripe_cancel_comments('letters')), qr/^1$/ ],
	'stripe_churn' => [ q(SELECT count(*) FROM stripe_churn('plan')), qr/^[1-9]/ ],
	'stripe_churn_leak' => [ q(SELECT count(*) FROM stripe_churn_leak()), qr/^[1-9]/ ],
	'stripe_churn_rate' => [ q(SELECT count(*) FROM stripe_churn_rate()), qr/^[1-9]/ ],
	'stripe_churn_report' => [ q(SELECT stripe_churn_report()), qr/^<!DOCTYPE html>/ ],
	'stripe_decline_curable' => [ q(SELECT count(*) FROM stripe_decline_curable()), qr/^\d+$/ ],
	'stripe_decline_recovery' => [ q(SELECT count(*) FROM stripe_decline_recovery()), qr/^[1-9]/ ],
	'stripe_decline_report' => [ q(SELECT count(*) FROM stripe_decline_report()), qr/^[1-9]/ ],
	'stripe_decline_wasted' => [ q(SELECT count(*) FROM stripe_decline_wasted()), qr/^\d+$/ ],
	'stripe_drift' => [ q(SELECT count(*) FROM stripe_drift(objects => '{customer}')), qr/^0$/ ],
	'stripe_is_active' => [ q(SELECT stripe_is_active('cus_ada'), stripe_is_active('cus_emil')), qr/^t\|f$/ ],
	'stripe_mrr_bridge' => [ q(SELECT count(*) FROM stripe_mrr_bridge()), qr/^[1-9]/ ],
	'stripe_portal_configuration_diff' => [ q(SELECT count(*) FROM stripe_portal_configuration_diff('standard')), qr/^0$/ ],
	'stripe_retention' => [ q(SELECT count(*) FROM stripe_retention()), qr/^[1-9]/ ],
	'stripe_sign_webhook' => [ q(SELECT stripe_sign_webhook('x', 'whsec_x')), qr/^t=\d+,v1=/ ],
	'stripe_subscription_at' => [ q(SELECT (stripe_subscription_at('sub_ada', now())).customer), qr/^cus_ada$/ ],
	'stripe_subscriptions_at' => [ q(SELECT count(*) FROM stripe_subscriptions_at(now())), qr/^[1-9]/ ],
	'stripe_uncancel_rate' => [ q(SELECT count(*) FROM stripe_uncancel_rate()), qr/^[1-9]/ ],
	'stripe_verify_webhook' => [ q(SELECT stripe_verify_webhook('x', s), stripe_verify_webhook('x'::bytea, s), stripe_verify_webhook('y', s)
		FROM stripe_sign_webhook('x', SECRET) AS s), qr/^t\|t\|f$/ ],
	'stripe_winback_lift' => [ q(SELECT count(*) FROM stripe_winback_lift()), qr/^[1-9]/ ],
	'stripe_winback_preview' => [ q(SELECT count(*) FROM stripe_winback_preview('stay')), qr/^\d+$/ ],
);

# What writes.  Some tell of what they call.
my %writes = (
	'stripe_catch_up' => q(CALL stripe_catch_up()),
	'stripe_forget' => q(SELECT stripe_forget('cus_ada')),
	'stripe_my_portal_session' => q(SELECT stripe_my_portal_session()),
	'stripe_portal_configuration_apply' => q(SELECT stripe_portal_configuration_apply('standard')),
	'stripe_portal_configure' => q(SELECT stripe_portal_configure('standard', true, true)),
	'stripe_portal_grant' => q(SELECT stripe_portal_grant('app', 'app')),
	'stripe_portal_map_users' => q(SELECT stripe_portal_map_users(metadata_key => 'user_id')),
	'stripe_portal_open' => q(SELECT stripe_portal_open('cus_ada')),
	'stripe_portal_return' => q(SELECT stripe_portal_return('x')),
	'stripe_portal_revoke' => q(SELECT stripe_portal_revoke('app', 'app')),
	'stripe_portal_session' => q(SELECT stripe_portal_session('cus_ada')),
	'stripe_portal_tick' => q(CALL stripe_portal_tick()),
	'stripe_receive_webhook' => q(SELECT stripe_receive_webhook('x', stripe_sign_webhook('x', SECRET))),
	'stripe_receive_webhooks' => q(SELECT stripe_receive_webhooks('{x}', ARRAY[stripe_sign_webhook('x', SECRET)])),
	'stripe_refresh' => q(SELECT stripe_refresh('cus_ada')),
	'stripe_refresh_coupon' => q(SELECT stripe_refresh_coupon('STAY20')),
	'stripe_replay' => q(SELECT stripe_replay(type => 'customer.*', failed_only => false)),
	'stripe_require_active' => undef,    # a trigger, of a statement that says so
	'stripe_resolve_thin' => q(SELECT stripe_resolve_thin('evt_thin')),
	'stripe_sync' => q(CALL stripe_sync()),
	'stripe_webhook' => q(SELECT stripe_webhook('{}')),
	'stripe_winback_claim' => q(SELECT stripe_winback_claim()),
	'stripe_winback_failed' => q(SELECT stripe_winback_failed(gen_random_uuid(), gen_random_uuid(), 'x')),
	'stripe_winback_open' => q(SELECT stripe_winback_open('x')),
	'stripe_winback_sent' => q(SELECT stripe_winback_sent(gen_random_uuid(), gen_random_uuid())),
);

my %tells = (
	'stripe_my_portal_session' => 'stripe_portal_session()',
	'stripe_portal_grant' => 'GRANT',
	'stripe_portal_revoke' => 'REVOKE',
	'stripe_webhook' => 'stripe_receive_webhook()',
);

my $settings = stand_in_settings();
my $secret = slurp_file($settings =~ /webhook_secret_file = '(.*)'/);
chomp $secret;
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', $settings . "fsync = off\nstripe_portal.return_url = 'https://app.example.com/account'\n");
$primary->start;
is(live($primary, 'postgres'), '', 'every table has something in it');
$primary->safe_psql('postgres', 'CREATE ROLE app');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

is_deeply(
	[ sort(keys %reads, keys %writes) ],
	[ split /\n/, $standby->safe_psql('postgres', q(
		SELECT p.proname FROM pg_depend AS d JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
		JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
		WHERE e.extname = 'stripe_portal' AND p.proname LIKE 'stripe\_%' GROUP BY 1 ORDER BY p.proname COLLATE "C")) ],
	'every function for users is in one of the lists');

is($standby->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE refused IS NULL) FROM stripe_portal.session'),
	$primary->safe_psql('postgres', 'SELECT count(*), count(*) FILTER (WHERE refused IS NULL) FROM stripe_portal.session'), 'the tables can be read');
is(contents($standby, 'postgres'), contents($primary, 'postgres'), 'all of them');
foreach my $name (sort keys %reads)
{
	my ($call, $expected) = @{ $reads{$name} };
	like($standby->safe_psql('postgres', with_secret($call)), $expected, "$name works");
}
foreach my $view (split /\n/, $standby->safe_psql('postgres', q(
	SELECT oid::regclass FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind = 'v' ORDER BY relname)))
{
	is($standby->psql('postgres', "SELECT count(v) FROM $view AS v"), 0, "view $view can be read");
}

$primary->safe_psql('postgres', q(SELECT stand_in('reset')));
foreach my $name (grep { defined $writes{$_} } sort keys %writes)
{
	my $stderr;

	$standby->psql('postgres', "\\set VERBOSITY verbose\n" . with_secret($writes{$name}), stderr => \$stderr);
	my $told = $tells{$name} // "$name()";
	like($stderr, qr/ERROR:  25006: cannot execute \Q$told\E in a read-only transaction/, "$name says that it can not run there");
}
is($primary->safe_psql('postgres', q(SELECT r ->> 'method', r ->> 'path' FROM jsonb_array_elements(stand_in('requests', NULL, 'GET') -> 'data') AS r)),
	'', 'and asks Stripe for nothing');
my $stderr;
$standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT stripe_api('POST', '/v1/customers')", stderr => \$stderr);
like($stderr, qr/25006: cannot execute Stripe POST requests in a read-only transaction/, 'nor can stripe_api change anything at Stripe');
$standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT stripe_drift(repair => true)", stderr => \$stderr);
like($stderr, qr/25006: cannot execute stripe_drift\(\) with repair in a read-only transaction/, 'or stripe_drift repair');
foreach my $name (qw(tend_ledger retry_failed))
{
	$standby->psql('postgres', "\\set VERBOSITY verbose\nSELECT stripe_portal.$name()", stderr => \$stderr);
	like($stderr, qr/25006: cannot execute $name\(\) in a read-only transaction/, "$name says so too");
}

# ---------------------------------------------------------------------------
# When the standby takes over, it is the primary
# ---------------------------------------------------------------------------

my $before = contents($primary, 'postgres');
$primary->stop('immediate');
$standby->promote;
is(contents($standby, 'postgres'), $before, 'promoted, it has everything');
is($standby->safe_psql('postgres', q(SELECT DISTINCT r.outcome FROM jsonb_array_elements(stand_in('deliveries', NULL, 'GET') -> 'data') AS d,
	stripe_receive_webhook(d ->> 'payload', d ->> 'signature') AS r)), 'duplicate', 'what was received is known');
is($standby->safe_psql('postgres', q(SELECT url LIKE 'https://%' FROM stripe_portal_open('cus_cleo'))), 't', 'a session can be opened');
$standby->safe_psql('postgres', 'CALL stripe_portal_tick()');
is($standby->safe_psql('postgres', q(SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done')), '', 'the tick goes on');

$standby->stop;
done_testing();

sub with_secret
{
	my ($call) = @_;

	return $call =~ s/SECRET/'$secret'/r;
}
