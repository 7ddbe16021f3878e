
# Any order: histories of every kind of object, made up at random, end in the
# same rows in every table, whatever order they are told in, by one connection
# or by eight at once that all tell everything; and what the rows say without a
# mark for a refetch is true.
#
# SP_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Histories qw(history_kinds make_history);
use IPC::Run ();
use List::Util qw(uniq);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $histories = 1000;
my $orders = 50;
my $received = 4;     # of these with signature and all, as Stripe delivers; the others begin behind it
my $in_bulk = 4;      # and so many in bulk
my $short = 5;        # so many events can be told in 120 orders
my $few = 130;        # histories for that, and for the clients
my $clients = 8;

srand($seed);

my (@events, @truth);
my @kinds = history_kinds();
foreach my $n (1 .. $histories)
{
	my ($events, $truth) = make_history($kinds[ $n % @kinds ], $n);

	push @events, map { [ $n, $_ + 1, $events->[$_] ] } 0 .. $#$events;
	push @truth, [ $n, @$truth ];
}
note "numbers: SP_SEED=$seed, $histories histories of " . @kinds . ' kinds, ' . @events . ' events and reads';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off");
$node->start;

# Two databases, one per core: each order begins with empty tables.
my @databases = ('postgres', 'second');
$node->safe_psql('postgres', 'CREATE DATABASE second');
my $setup = sql() . copy('story', @events) . copy('truth', @truth) . 'ANALYZE;';
$node->safe_psql($_, $setup) foreach @databases;

# ---------------------------------------------------------------------------
# Orders at random

my @told = at_once(map {
	my $n = $_;
	[ $databases[$n], map { $_ > $received && $_ <= $received + $in_bulk ? sprintf "SELECT play_in_bulk(%d);\n", $seed + $_
			: sprintf "SELECT play_shuffled(%d, %s);\n", $seed + $_, $_ <= $received ? 'true' : 'false' }
		  grep { $_ % 2 == $n } 1 .. $orders ]
} 0, 1);
is(scalar(map { split /\n/ } @told), $orders, "told in $orders orders, $received of them received as webhooks, $in_bulk in bulk");
is(join("\n", uniq(map { split /\n/ } @told)), (split /\n/, $told[0])[0], 'every order ends in the same rows in every table');
note 'numbers: rows ' . $node->safe_psql('postgres', q(SELECT string_agg(format('%s %s', count, tablename), ', ') FROM (
	SELECT count(*), tablename FROM state GROUP BY tablename ORDER BY tablename) AS s));

is($node->safe_psql('postgres', q(
	SELECT format('%s %s is %s, but should be %s', tablename, id, state.row, truth.row)
	FROM truth LEFT JOIN state USING (tablename, id)
	WHERE state.row IS NULL OR NOT (state.row @> truth.row OR coalesce((state.row ->> 'refetch')::boolean, false)) ORDER BY 1 LIMIT 5)),
	'', 'what is not marked for a refetch is true');
my $marked = $node->safe_psql('postgres', q(
	SELECT count(*) FROM truth JOIN state USING (tablename, id) WHERE (state.row ->> 'refetch')::boolean));
cmp_ok($marked, '<', $histories / 10, 'few are marked');
note "numbers: $marked of $histories are marked for a refetch";

is($node->safe_psql('postgres', q(
	SELECT s.id, stripe_portal.mrr(s, now()), sum(c.mrr_change)
	FROM stripe_portal.subscription AS s
	JOIN stripe_portal.subscription_change AS c ON c.subscription = s.id
	GROUP BY s.id, s.livemode, s.account
	HAVING stripe_portal.mrr(s, now()) <> coalesce(sum(c.mrr_change), 0))), '', 'the movements of MRR add up to the state');
cmp_ok($node->safe_psql('postgres', q(
	SELECT count(*) FROM stripe_portal.cancellation AS c JOIN stripe_portal.customer AS k ON k.id = c.customer
	WHERE c.country <> coalesce(k.address ->> 'country', ''))), '>', 0, 'some of those who left have moved since, and are where they were');
is($node->safe_psql('postgres', 'SELECT sum(subscribers), sum(mrr_change) FROM stripe_portal.subscriber_change'),
	$node->safe_psql('postgres', q(
	SELECT count(DISTINCT (customer, currency)), sum(mrr) FROM stripe_portal.subscription_change WHERE until = 'infinity' AND mrr > 0)),
	'who has come and not gone is a subscriber');
cmp_ok($node->safe_psql('postgres', q(SELECT count(DISTINCT movement) FROM stripe_portal.subscription_change)),
	'>=', 4, 'in movements of many kinds');

# ---------------------------------------------------------------------------
# All orders of the short ones: one after the other, each history on its own

my ($some, $some_events) = split /\|/, $node->safe_psql('postgres', qq(
	SELECT count(DISTINCT history), count(*) FROM short_story($short, $few)));
@told = at_once(map {
	my $n = $_;
	[ $databases[$n], map { "SELECT play_permuted($_, $short, $few);\n" } grep { $_ % 2 == $n } 0 .. 119 ]
} 0, 1);
note "numbers: $orders orders at random, $received of them received as webhooks, $in_bulk in bulk; $some histories in all orders; $clients clients at once";
is(scalar(map { split /\n/ } @told), 120, "$some histories of up to $short events, $some_events events, told in all orders");
is(join("\n", uniq(map { split /\n/ } @told)), (split /\n/, $told[0])[0], 'every order ends in the same rows in every table');

# ---------------------------------------------------------------------------
# All clients at once, each with everything in an order of its own

my $expected = $node->safe_psql('postgres', "SELECT play_shuffled(1, true, $few)");
$node->safe_psql('postgres', 'SELECT forget()');
at_once(map { [ 'postgres', "CALL deliver_shuffled($_, $few);\n" ] } 1 .. $clients);
is($node->safe_psql('postgres', qq(SELECT digest('$few histories'))), $expected, "$clients clients at once, of $few histories, end in the same rows");
is($node->safe_psql('postgres', 'SELECT count(*) FROM stripe_portal.event'),
	$node->safe_psql('postgres', "SELECT count(*) FROM story WHERE history <= $few AND NOT payload::jsonb ? 'as_of'"),
	'and every event is in the ledger once');

$node->stop;
done_testing();

# Scripts, each for a database, at the same time; what they print.
sub at_once
{
	my @runs = map {
		my ($database, @script) = @$_;
		my ($in, $out, $err) = (join('', @script), '', '');

		{ out => \$out, err => \$err, run => IPC::Run::start(
			[ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d', $node->connstr($database) ],
			'<', \$in, '>', \$out, '2>', \$err) };
	} @_;

	$_->{run}->finish foreach @runs;
	is(join('', map { ${ $_->{err} } } @runs), '', 'nothing goes wrong, no deadlock');
	return map { ${ $_->{out} } } @runs;
}

sub copy
{
	my ($table, @rows) = @_;

	return "COPY $table FROM stdin;\n" . join('', map { join("\t", map { s/\\/\\\\/gr } @$_) . "\n" } @rows) . "\\.\n";
}

sub sql
{
	return <<'END';
CREATE EXTENSION stripe_portal;
CREATE TABLE story (history integer, position integer, payload text);
CREATE TABLE truth (history integer, tablename text, id text, row jsonb);

-- Every row of every table that is made from events, whoever made it, without
-- what counts the rows.
DO $$
BEGIN
	EXECUTE 'CREATE VIEW state AS ' || (
		SELECT string_agg(format('SELECT %L AS tablename, to_jsonb(t) ->> %L AS id, to_jsonb(t) - %L::text[] AS row FROM %s AS t',
			relname, CASE relname WHEN 'entitlement' THEN 'customer' ELSE 'id' END,
			ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attidentity <> ''), c.oid::regclass), ' UNION ALL ')
		FROM pg_class AS c
		WHERE relnamespace = 'stripe_portal'::regnamespace AND relname !~ '^event' AND (relkind = 'r' OR relname = 'payment_failure')
		  AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'livemode'));
END $$;

-- What all orders have to agree on; and, where they do not, a row that the first
-- order has not left.
CREATE TABLE first_order (what text, tablename text, row jsonb);
CREATE FUNCTION digest(what text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO first_order SELECT digest.what, tablename, row FROM state
	WHERE NOT EXISTS (SELECT FROM first_order AS f WHERE f.what = digest.what);
	RETURN (SELECT count(*) || ' rows ' || md5(string_agg(line, '' ORDER BY line COLLATE "C"))
	        FROM (SELECT md5(tablename || row::text) AS line FROM state) AS s)
	    || coalesce((SELECT ' with ' || tablename || ' ' || row::text
	                 FROM (SELECT tablename, row FROM state EXCEPT SELECT f.tablename, f.row FROM first_order AS f WHERE f.what = digest.what) AS s LIMIT 1), '');
END $$;

CREATE FUNCTION forget() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE (SELECT 'TRUNCATE stripe_portal.event, ' || string_agg(DISTINCT 'stripe_portal.' || relname, ', ')
	         FROM pg_class AS c WHERE relnamespace = 'stripe_portal'::regnamespace AND relkind = 'r' AND relname !~ '^event'
	           AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'livemode'));
END $$;

-- receive: with signature and all; else what receiving does with a good event.
CREATE FUNCTION tell(payload text, receive boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	e CONSTANT jsonb := payload;
	receipt record;
BEGIN
	IF e ? 'as_of' THEN
		PERFORM stripe_portal.apply_object(e -> 'object', false, '', to_timestamp((e ->> 'as_of')::integer));
	ELSIF receive THEN
		receipt := stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_order'));
		IF receipt.outcome NOT IN ('applied', 'duplicate') THEN
			RAISE 'event % is %: %', receipt.event, receipt.outcome, receipt.error;
		END IF;
	ELSE
		PERFORM stripe_portal.apply_event(e);
		INSERT INTO stripe_portal.event (id, livemode, account, type, created, object_id, payload, status, received_at)
		SELECT e ->> 'id', false, '', e ->> 'type', stripe_portal.read_time(e -> 'created'),
		       stripe_portal.object_id(e #> '{data,object}'), payload::json, 'applied', now()
		WHERE NOT EXISTS (SELECT FROM stripe_portal.event AS known WHERE known.id = e ->> 'id'
			AND known.created = stripe_portal.read_time(e -> 'created'));
	END IF;
END $$;

-- Everything once and some of it twice, in an order that the seed gives.
CREATE FUNCTION shuffled(seed bigint, few integer DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT payload FROM story AS s, generate_series(1, 2) AS time
	WHERE history <= coalesce(few, history) AND (time = 1 OR hashint8extended(history * 1000 + position, seed) % 8 = 0)
	ORDER BY hashint8extended(history * 10000 + position * 10 + time, seed) $$;

CREATE FUNCTION play_shuffled(seed bigint, receive boolean, few integer DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM forget(), set_config('stripe_portal.webhook_secret', 'whsec_order', true);
	PERFORM tell(payload, receive) FROM shuffled(seed, few) AS payload;
	RETURN digest(coalesce(few || ' histories', 'all'));
END $$;

-- Up to a hundred at a time, in between what is read.
CREATE FUNCTION play_in_bulk(seed bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	payload text;
	waiting text[] := '{}';
	receipt record;
BEGIN
	PERFORM forget(), set_config('stripe_portal.webhook_secret', 'whsec_order', true);
	FOR payload IN SELECT shuffled(seed) UNION ALL SELECT NULL LOOP
		IF payload IS NULL OR payload::jsonb ? 'as_of' OR cardinality(waiting) = 100 THEN
			FOR receipt IN
				SELECT * FROM stripe_receive_webhooks(waiting, ARRAY(SELECT stripe_sign_webhook(w, 'whsec_order') FROM unnest(waiting) AS w))
				WHERE outcome NOT IN ('applied', 'duplicate')
			LOOP
				RAISE 'event % is %: %', receipt.event, receipt.outcome, receipt.error;
			END LOOP;
			waiting := '{}';
		END IF;
		IF payload::jsonb ? 'as_of' THEN
			PERFORM tell(payload, false);
		ELSIF payload IS NOT NULL THEN
			waiting := waiting || payload;
		END IF;
	END LOOP;
	RETURN digest('all');
END $$;

CREATE PROCEDURE deliver_shuffled(seed bigint, few integer) LANGUAGE plpgsql AS $$
DECLARE
	payload text;
BEGIN
	FOR payload IN SELECT shuffled(seed, few) LOOP
		PERFORM set_config('stripe_portal.webhook_secret', 'whsec_order', true), tell(payload, true);
		COMMIT;
	END LOOP;
END $$;

-- The permutation number p of 1 to n.
CREATE FUNCTION permutation(n integer, p integer) RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
	left_over integer[] := ARRAY(SELECT generate_series(1, n));
	result integer[] := '{}';
	k integer;
BEGIN
	FOR i IN REVERSE n .. 1 LOOP
		k := p % i + 1;
		p := p / i;
		result := result || left_over[k];
		left_over := left_over[:k - 1] || left_over[k + 1:];
	END LOOP;
	RETURN result;
END $$;

CREATE FUNCTION short_story(longest integer, few integer) RETURNS TABLE (history integer, "position" integer, payload text, n integer)
LANGUAGE sql AS $$
	SELECT s.history, s.position, s.payload, h.n::integer
	FROM (SELECT s.history, count(*) AS n FROM story AS s GROUP BY 1 HAVING count(*) <= longest ORDER BY 1 LIMIT few) AS h JOIN story AS s USING (history) $$;

CREATE FUNCTION play_permuted(p integer, longest integer, few integer) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM forget();
	PERFORM tell(payload, false) FROM (SELECT payload FROM short_story(longest, few)
		ORDER BY array_position(permutation(n, p), position), history) AS s;
	RETURN digest('short ones');
END $$;
END
}
