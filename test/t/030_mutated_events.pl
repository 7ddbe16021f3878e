# Events that are not as they should be: of all kinds that there are, changed at
# random, signed, and received one by one in one backend.  Each becomes a row
# of the ledger that says what became of it; none is an error, and afterwards
# everything works as before.  A part of them is received in batches as well, and
# comes to the same.
#
# SP_SEED repeats a run, SP_EVENTS makes it longer or shorter.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_with_stand_in);
use Test::More;

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $count = $ENV{SP_EVENTS} // 20_000;
my $batched = int($count / 5);
my $dir = PostgreSQL::Test::Utils::tempdir();

system_or_bail("python3 test/every_event.py >$dir/good");
system_or_bail("python3 test/mutate.py $count $seed <$dir/good >$dir/mutated");

append_to_file("$dir/webhook_secret", "whsec_mutated\n");
chmod 0600, "$dir/webhook_secret";

my ($node) = start_with_stand_in("stripe_portal.webhook_secret_file = '$dir/webhook_secret'");
$node->safe_psql('postgres', qq(
	CREATE TABLE mutated (n serial PRIMARY KEY, body bytea, sig text, outcome text, reason text, raised text);
	COPY mutated (body, sig) FROM '$dir/mutated';
	CREATE TABLE good (n serial PRIMARY KEY, body json, outcome text, reason text);
	CREATE TEMP TABLE line (body text);
	COPY line FROM '$dir/good' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02');
	INSERT INTO good (body) SELECT jsonb_set(b, '{id}', to_jsonb('evt_good_' || row_number() OVER ())) ||
		CASE WHEN b ->> 'object' = 'event' THEN jsonb_build_object('created', (b ->> 'created')::bigint + 86400 * 365) ELSE '{}' END
	FROM line, jsonb(body::jsonb #>> '{}') AS b;
	CREATE PROCEDURE receive_mutated(first integer, last integer) LANGUAGE plpgsql AS \$\$
	DECLARE
		m record;
	BEGIN
		FOR m IN SELECT n, body, sig FROM mutated WHERE n BETWEEN first AND last ORDER BY n LOOP
			BEGIN
				UPDATE mutated SET (outcome, reason) = (SELECT r.outcome, r.error
					FROM stripe_receive_webhook(m.body, m.sig, to_timestamp(1800000000)) AS r) WHERE n = m.n;
			EXCEPTION WHEN OTHERS THEN
				UPDATE mutated SET raised = SQLSTATE || ': ' || SQLERRM WHERE n = m.n;
			END;
			COMMIT;
		END LOOP;
	END \$\$;
));

my $began = time;
my ($stdout, $stderr);
is($node->psql('postgres', "CALL receive_mutated(1, $count)", stdout => \$stdout, stderr => \$stderr), 0, 'every one is received')
  or diag $stderr;
note "numbers: SP_SEED=$seed, $count events, " . (time - $began) . ' s; '
  . $node->safe_psql('postgres', q(SELECT string_agg(format('%s %s', n, outcome), ', ' ORDER BY outcome)
		FROM (SELECT count(*) AS n, coalesce(outcome, 'raised') AS outcome FROM mutated GROUP BY 2) AS o));

is($node->safe_psql('postgres', 'SELECT n, raised FROM mutated WHERE raised IS NOT NULL ORDER BY n LIMIT 10'), '', 'none is an error');
is($node->safe_psql('postgres', q(SELECT n, outcome, reason FROM mutated
		WHERE outcome NOT IN ('applied', 'ignored', 'thin', 'duplicate', 'failed') OR (outcome = 'failed') <> (reason IS NOT NULL) LIMIT 10)),
	'', 'each has an outcome, and each failure a reason');
is($node->safe_psql('postgres', q(SELECT count(*) FROM mutated WHERE outcome <> 'duplicate')),
	$node->safe_psql('postgres', 'SELECT count(*) FROM stripe_portal.event'), 'each is one row of the ledger');

# What is wrong with a value is said as that; an error of our own making, or of
# the server's, would have another code.
is($node->safe_psql('postgres', q(SELECT reason, count(*), min(n) FROM mutated
		WHERE outcome = 'failed' AND reason !~ '^(22|23|54|P0001|the (body|event) )' GROUP BY 1 ORDER BY 1 LIMIT 10)),
	'', 'the reason is in the event');
note 'numbers: reasons ' . $node->safe_psql('postgres', q(SELECT string_agg(format('%s %s', n, code), ', ' ORDER BY n DESC)
	FROM (SELECT count(*) AS n, coalesce(substring(reason FROM '^[0-9A-Z]{5}(?=:)'), 'no event') AS code FROM mutated
	WHERE outcome = 'failed' GROUP BY 2) AS o));

#
# In batches, in a database of their own, all that can be handed over as text
#
$node->safe_psql('postgres', qq(
	CREATE FUNCTION as_text(body bytea) RETURNS text LANGUAGE plpgsql AS \$\$
	BEGIN
		RETURN convert_from(body, 'UTF8');
	EXCEPTION WHEN data_exception THEN
		RETURN NULL;
	END \$\$;
	COPY (SELECT n, as_text(body), sig, outcome, reason FROM mutated WHERE n <= $batched AND as_text(body) IS NOT NULL ORDER BY n) TO '$dir/texts';
	CREATE DATABASE batched));
$node->safe_psql('batched', 'CREATE EXTENSION stripe_portal;' . qq(
	CREATE TABLE mutated (n integer PRIMARY KEY, body text, sig text, alone text, alone_reason text, event text, outcome text, reason text);
	COPY mutated (n, body, sig, alone, alone_reason) FROM '$dir/texts';
	CREATE PROCEDURE receive_batches() LANGUAGE plpgsql AS \$\$
	BEGIN
		FOR batch IN 1 .. $batched BY 100 LOOP
			UPDATE mutated AS m SET event = r.event, outcome = r.outcome, reason = r.error
			FROM (SELECT array_agg(body ORDER BY n) AS bodies, array_agg(sig ORDER BY n) AS sigs, array_agg(n ORDER BY n) AS numbers,
					array_agg(to_timestamp(1800000000) ORDER BY n) AS times
				  FROM mutated WHERE n BETWEEN batch AND batch + 99) AS b,
				stripe_receive_webhooks(bodies, sigs, times) WITH ORDINALITY AS r (event, type, outcome, error, i)
			WHERE m.n = b.numbers[r.i];
			COMMIT;
		END LOOP;
	END \$\$));
is($node->psql('batched', 'CALL receive_batches()', stdout => \$stdout, stderr => \$stderr), 0, 'they are received in batches')
  or diag $stderr;
# Which of two that have one id comes first is not the same, nor does Stripe send such.
is($node->safe_psql('batched', q(SELECT n, alone, alone_reason, outcome, reason
		FROM (SELECT *, count(*) OVER (PARTITION BY event) AS same FROM mutated) AS m
		WHERE same = 1 AND (alone, alone_reason) IS DISTINCT FROM (outcome, reason) ORDER BY n LIMIT 5)), '', 'each comes to what it came to alone');
#
# Afterwards
#
$node->safe_psql('postgres', q(
	DO $$
	DECLARE
		g record;
	BEGIN
		FOR g IN SELECT n, body::text AS body FROM good ORDER BY n LOOP
			UPDATE good SET (outcome, reason) = (SELECT r.outcome, r.error
				FROM stripe_receive_webhook(g.body, stripe_sign_webhook(g.body, 'whsec_mutated')) AS r) WHERE n = g.n;
		END LOOP;
	END $$));
is($node->safe_psql('postgres', q(SELECT n, body ->> 'type', outcome, reason FROM good WHERE outcome NOT IN ('applied', 'ignored', 'thin') LIMIT 10)),
	'', 'good events of the same objects are applied');
is($node->safe_psql('postgres', q(
	SELECT format('SELECT %L, t.id, t.event FROM %s AS t JOIN good ON body #>> ''{data,object,object}'' = %L AND body #>> ''{data,object,id}'' = t.id'
		|| ' WHERE NOT t.livemode AND t.account = '''' AND t.event NOT LIKE ''evt\_good\_%%'' AND NOT t.deleted %s', c.relname, c.oid::regclass, c.relname,
		CASE c.relname WHEN 'subscription' THEN 'AND NOT stripe_portal.status_is_final(t.status)' END)
	FROM pg_class AS c WHERE c.relnamespace = 'stripe_portal'::regnamespace AND c.relkind = 'r'
		AND 4 = (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND attname IN ('event', 'deleted', 'livemode', 'id'))
	\gexec)), '', 'and their rows show it');

# Reading: every view, and every report.
my @views = split /\n/, $node->safe_psql('postgres', q(SELECT oid::regclass FROM pg_class WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind = 'v' ORDER BY 1));
foreach my $relation (@views, qw(stripe_mrr_bridge() stripe_churn('feedback') stripe_churn_rate() stripe_uncancel_rate() stripe_cancel_comments()
	stripe_decline_report() stripe_decline_recovery() stripe_decline_wasted() stripe_decline_curable() stripe_at_risk() stripe_churn_leak()
	stripe_retention() stripe_churn_report() stripe_subscriptions_at(now())))
{
	$node->psql('postgres', "SELECT count(t::text) FROM $relation AS t", stderr => \$stderr);
	is($stderr, '', "$relation can be read");
}

# It warns that Stripe does not list what the events have made up.
is($node->psql('postgres', 'CALL stripe_portal_tick()', stderr => \$stderr), 0, 'the tick runs');
is($node->safe_psql('postgres', q(SELECT part, state, error FROM stripe_portal.tick_status WHERE state <> 'done')), '', 'all of it');

$node->stop;
done_testing();
