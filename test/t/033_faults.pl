# Stripe is down, slow, lies, or cuts its answers short, whatever is asked of it:
# nothing is written here that is not true, and once Stripe is well again the
# same call does what it was to do, once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_with_stand_in);
use Test::More;
use Work qw($work_setup);

# How the stand-in can fail, each with what is sent before the time is up.
my @faults = qw(down rate_limited lock_timeout should_not_retry server_error unavailable forbidden conflict cut_body invalid_json
  not_json wrong_object wrong_mode slow_first_byte slow_body redirect huge_body close close_after empty_body deep_json);

# What asks Stripe.  A bulk read is patient with a Stripe that is busy: nobody
# waits for that here.
my %calls = (
	session => q(SELECT stripe_portal_session('cus_1_1', 'https://app.example.com/')),
	refresh => q(SELECT stripe_refresh('cus_1_1')),
	sync => 'CALL stripe_sync()',
	catch_up => 'CALL stripe_catch_up()',
	tick => 'CALL stripe_portal_tick()',
	drift => 'SELECT count(*) FROM stripe_drift()',
	apply => q(SELECT stripe_portal_configuration_apply('FAULT')));

# How long one who finds Stripe at fault waits for it.
my $impatient = 'SET stripe_portal.max_retries = 0; SET stripe_portal.timeout = 500; SET statement_timeout = 3000;';

my ($node) = start_with_stand_in();
$node->safe_psql('postgres', $work_setup);
$node->safe_psql('postgres', q(
	-- all that is shown of Stripe's objects, and what was made of that; a mark that
	-- something is to be read again says nothing
	CREATE FUNCTION shown() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		relation regclass;
		part text;
		whole text := '';
	BEGIN
		FOR relation IN SELECT attrelid FROM pg_attribute WHERE attname = 'event_created' AND attrelid IN (
				SELECT oid FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind = 'r')
			UNION ALL SELECT unnest('{stripe_portal.event, stripe_portal.subscription_change, stripe_portal.cancellation}'::regclass[]) LOOP
			EXECUTE format('SELECT md5(string_agg(r::text, chr(10) ORDER BY r::text)) FROM %s AS t, LATERAL (SELECT to_jsonb(t) - ''refetch'') AS j (r)', relation) INTO part;
			whole := concat(whole, part);
		END LOOP;
		RETURN md5(whole);
	END $$;
	SELECT subscribers(1, 3)));
$node->safe_psql('postgres', "CALL stripe_catch_up()");

my $n = 0;
foreach my $fault (@faults)
{
	$n++;
	# something new at Stripe for each that asks
	$node->safe_psql('postgres', qq(
		SELECT stripe_api('POST', '/v1/customers/cus_1_1', '{"email": "new$n\@example.com"}'), stripe_portal_configure('$fault', true, false);
		SELECT subscribers($n + 1, 1)));
	my $before = $node->safe_psql('postgres', 'SELECT shown()');
	my @wrong;
	foreach my $name (sort keys %calls)
	{
		my ($out, $err);
		my $call = $calls{$name} =~ s/FAULT/$fault/r;

		$node->safe_psql('postgres', qq(SELECT stand_in('POST', 'fault', '{"kind": "$fault", "times": 0, "seconds": 2}'))) if $fault ne 'down';
		$node->psql('postgres', ($fault eq 'down' ? "SET stripe_portal.api_base = 'http://127.0.0.1:1';" : '') . "$impatient $call", stdout => \$out, stderr => \$err);
		$node->safe_psql('postgres', q(SELECT stand_in('POST', 'reset')));
		push @wrong, "$name says nothing" if $err !~ /ERROR|WARNING|refused|not applied/;
		push @wrong, "$name: $err" if $err =~ /XX000|server closed/;
		my $after = $node->safe_psql('postgres', 'SELECT shown()');
		push @wrong, "$name has changed what is shown" if $after ne $before;
		$before = $after;
	}
	is(join("\n", @wrong), '', "$fault: is said, and believed by nobody");

	@wrong = ();
	foreach my $name (sort keys %calls)
	{
		my ($out, $err);
		my $call = $calls{$name} =~ s/FAULT/$fault/r;
		push @wrong, "$name: $err" if $node->psql('postgres', "SET client_min_messages = warning; $call", stdout => \$out, stderr => \$err) != 0 || $err ne '';
	}
	push @wrong, $node->safe_psql('postgres', qq(SELECT wrong() UNION ALL SELECT half_done() UNION ALL
		SELECT count(*) || ' at Stripe' FROM at_stripe('billing_portal.configuration') AS c WHERE c #>> '{metadata,stripe_portal}' = '$fault' HAVING count(*) <> 1));
	is(join("\n", grep { $_ ne '' } @wrong), '', "$fault: afterwards everything works, and is done once");
}
note 'numbers: ' . @faults . ' faults in ' . keys(%calls) . ' calls';

$node->stop;
done_testing();
