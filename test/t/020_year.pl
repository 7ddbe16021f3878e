# A year of a business with 10,000 subscribers, made up by test/year.py with
# everything there is to know about it.  One half of the customers is applied in
# the order in which things happened, the other in no order at all, by two
# connections at once.  Then every report has to say what is true.
#
# SP_SEED repeats a run; SP_SUBSCRIBERS makes it smaller.

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $subscribers = $ENV{SP_SUBSCRIBERS} // 10000;
my $year = q{'[2025-01-01,2026-01-01)', livemode => true};

my $folder = PostgreSQL::Test::Utils::tempdir;
my $made = `python3 test/year.py $folder $subscribers $seed`;
is($?, 0, 'the year is made');
note "numbers: SP_SEED=$seed, $made";

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# Days and months are those of UTC, wherever the session is.
$node->append_conf('postgresql.conf', "fsync = off\nshared_buffers = 256MB\ntimezone = 'Pacific/Kiritimati'");
$node->start;

load();
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT livemode) FROM stripe_portal.event'),
	$node->safe_psql('postgres', 'SELECT count(*), 1 FROM line'), 'the whole year is in the ledger');

# ---------------------------------------------------------------------------
# Movements and the bridge
# ---------------------------------------------------------------------------

agrees('every movement of MRR',
	q(SELECT subscription, customer, at AT TIME ZONE 'UTC', currency, movement, mrr_change, mrr
	  FROM stripe_portal.subscription_change WHERE movement IS NOT NULL AND at < '2026-01-01Z'),
	q(SELECT subscription, customer, at, currency, movement, mrr_change, mrr FROM truth.movement));

agrees('the MRR bridge',
	qq(SELECT * FROM stripe_mrr_bridge($year)),
	q(SELECT m.month, c.currency, opening.mrr,
	         coalesce(sum(mrr_change) FILTER (WHERE movement = 'new'), 0), coalesce(sum(mrr_change) FILTER (WHERE movement = 'expansion'), 0),
	         coalesce(sum(mrr_change) FILTER (WHERE movement = 'contraction'), 0), coalesce(sum(mrr_change) FILTER (WHERE movement = 'reactivation'), 0),
	         coalesce(sum(mrr_change) FILTER (WHERE movement = 'pause'), 0), coalesce(sum(mrr_change) FILTER (WHERE movement = 'resume'), 0),
	         coalesce(sum(mrr_change) FILTER (WHERE movement = 'churn'), 0), closing.mrr, opening.subscribers, closing.subscribers, 0::bigint
	  FROM truth.month AS m CROSS JOIN (SELECT DISTINCT currency FROM truth.movement) AS c
	  JOIN truth.total AS opening ON (opening.boundary, opening.currency) = (m.month, c.currency)
	  JOIN truth.total AS closing ON (closing.boundary, closing.currency) = (m.next, c.currency)
	  LEFT JOIN truth.movement AS t ON t.currency = c.currency AND t.at >= m.month AND t.at < m.next
	  GROUP BY m.month, c.currency, opening.mrr, closing.mrr, opening.subscribers, closing.subscribers));

is($node->safe_psql('postgres', qq(
	SELECT count(*) FILTER (WHERE opening + new + expansion + contraction + reactivation + pause + resume + churn <> closing),
	       count(*) FILTER (WHERE opening <> before) FROM (
	    SELECT *, lag(closing) OVER (PARTITION BY currency ORDER BY month) AS before FROM stripe_mrr_bridge($year)) AS b)),
	'0|0', 'the bridge adds up in every month and currency, and each begins where the one before ended');

agrees('retention',
	qq(SELECT * FROM stripe_retention($year)),
	q(SELECT c.cohort, c.currency, (row_number() OVER (PARTITION BY c.cohort, c.currency ORDER BY b.boundary) - 1)::integer,
	         count(DISTINCT c.customer), count(DISTINCT s.customer) FILTER (WHERE s.mrr > 0), c.mrr::bigint, coalesce(sum(s.mrr), 0)::bigint
	  FROM (SELECT *, sum(first_mrr) OVER (PARTITION BY cohort, currency) AS mrr
	        FROM (SELECT customer, currency, date_trunc('month', min(at))::date AS cohort, (array_agg(mrr ORDER BY at))[1] AS first_mrr
	              FROM truth.movement GROUP BY 1, 2) AS first) AS c
	  JOIN truth.boundary AS b ON b.boundary > c.cohort AND c.cohort >= '2025-01-01'
	  LEFT JOIN truth.standing AS s ON (s.boundary, s.customer) = (b.boundary, c.customer)
	  GROUP BY c.cohort, c.currency, c.mrr, b.boundary));

# ---------------------------------------------------------------------------
# Cancellations and churn
# ---------------------------------------------------------------------------

agrees('every episode of leaving',
	q(SELECT subscription, customer, began_at AT TIME ZONE 'UTC', undone_at AT TIME ZONE 'UTC', effective_at AT TIME ZONE 'UTC',
	         ended_at AT TIME ZONE 'UTC', ended_by, voluntary, asked_at IS NOT NULL, feedback, comment, product, price, quantity, currency, mrr,
	         started_at AT TIME ZONE 'UTC', country
	  FROM stripe_portal.cancellation),
	q(SELECT c.subscription, c.customer, asked_at, undone_at, coalesce(effective_at, ended_at), ended_at,
	         CASE WHEN ended_at IS NOT NULL THEN reason END, reason = 'cancellation_requested', reason = 'cancellation_requested',
	         feedback, comment, product, price, quantity::bigint, currency, mrr, start_date, country
	  FROM truth.cancellation AS c, truth.country_at(c.customer, asked_at) AS country));

cmp_ok($node->safe_psql('postgres', q(
	SELECT count(*) FROM truth.cancellation AS c, LATERAL (SELECT country FROM truth.country WHERE customer = c.customer ORDER BY since DESC LIMIT 1) AS l
	WHERE l.country <> truth.country_at(c.customer, asked_at))), '>', 0, 'some moved to another country after they had asked');

foreach my $by (
	[ reason => 'reason' ], [ feedback => 'feedback' ], [ plan => 'product' ], [ price => 'price' ], [ country => 'country' ],
	[ cohort => q(to_char(start_date, 'YYYY-MM')) ],
	[ age => q((SELECT max(band) FROM (VALUES (0, '00-01 months'), (1, '01-03 months'), (3, '03-12 months'), (12, '12-24 months'), (24, '24+ months'))
	            AS b (months, band) WHERE start_date + make_interval(months => b.months) <= at)) ])
{
	agrees("churn by $by->[0]",
		qq(SELECT * FROM stripe_churn('$by->[0]', $year)),
		qq(SELECT month, currency, $by->[1], voluntary, count(DISTINCT customer) FILTER (WHERE gone), sum(mrr)::bigint
		   FROM truth.loss WHERE month >= '2025-01-01' GROUP BY 1, 2, 3, 4));
}

agrees('churn rates',
	qq(SELECT * FROM stripe_churn_rate($year)),
	q(SELECT month, currency, subscribers, mrr, left_by_will, left_otherwise, lost_by_will, lost_otherwise,
	         round((left_by_will + left_otherwise)::numeric / subscribers, 4), round(left_by_will::numeric / subscribers, 4),
	         round(left_otherwise::numeric / subscribers, 4),
	         round((lost_by_will + lost_otherwise)::numeric / mrr, 4), round(lost_by_will::numeric / mrr, 4), round(lost_otherwise::numeric / mrr, 4)
	  FROM (SELECT t.boundary AS month, t.currency, t.subscribers, t.mrr,
	               count(*) FILTER (WHERE last_of_month AND voluntary) AS left_by_will,
	               count(*) FILTER (WHERE last_of_month AND NOT voluntary) AS left_otherwise,
	               coalesce(sum(l.mrr) FILTER (WHERE voluntary), 0)::bigint AS lost_by_will,
	               coalesce(sum(l.mrr) FILTER (WHERE NOT voluntary), 0)::bigint AS lost_otherwise
	        FROM truth.total AS t
	        LEFT JOIN (SELECT *, gone AND NOT EXISTS (SELECT FROM truth.loss AS later WHERE later.customer = l.customer AND later.month = l.month
	                                                  AND later.gone AND (later.at, later.subscription) > (l.at, l.subscription)) AS last_of_month
	                   FROM truth.loss AS l) AS l ON (l.month, l.currency) = (t.boundary, t.currency)
	        WHERE t.boundary < '2026-01-01'
	        GROUP BY 1, 2, 3, 4) AS counted));

agrees('cancellations taken back',
	qq(SELECT * FROM stripe_uncancel_rate($year)),
	q(SELECT month, currency, sum(asked)::bigint, sum(undone)::bigint, sum(asked - undone - ended)::bigint, round(sum(undone)::numeric / sum(asked), 4)
	  FROM (SELECT date_trunc('month', asked_at)::date AS month, currency, 1 AS asked, (undone_at IS NOT NULL)::integer AS undone,
	               (ended_at IS NOT NULL)::integer AS ended
	        FROM truth.cancellation WHERE effective_at IS NOT NULL AND asked_at >= '2025-01-01') AS c
	  GROUP BY 1, 2));

agrees('comments',
	qq(SELECT at AT TIME ZONE 'UTC', customer, subscription, plan, feedback, comment, mrr, currency FROM stripe_cancel_comments(NULL, $year)),
	q(SELECT asked_at, customer, subscription, product, feedback, comment, mrr, currency
	  FROM truth.cancellation WHERE comment IS NOT NULL AND asked_at >= '2025-01-01'));

agrees('comments with a word',
	qq(SELECT subscription, comment FROM stripe_cancel_comments('"für uns" or BUDGET', $year)),
	q(SELECT subscription, comment FROM truth.cancellation
	  WHERE comment IN ('Budget cut', 'Zu teuer für uns') AND asked_at >= '2025-01-01'));

# What a customer came back with counts for the last loss before, within 90 days.
agrees('the leak',
	qq(SELECT * FROM stripe_churn_leak($year)),
	q(SELECT t.boundary, t.currency, l.asked, l.unpaid, l.asked_back, l.unpaid_back,
	         coalesce((SELECT sum(c.mrr) FROM truth.cancellation AS c
	                   WHERE date_trunc('month', c.undone_at) = t.boundary AND c.currency = t.currency), 0)::bigint,
	         coalesce((SELECT sum(was.mrr)
	                   FROM (SELECT DISTINCT invoice, subscription, recovered_at FROM truth.failure AS f
	                         WHERE date_trunc('month', recovered_at) = t.boundary AND f.currency = t.currency) AS paid
	                   CROSS JOIN LATERAL (SELECT mrr FROM truth.movement AS m WHERE m.subscription = paid.subscription AND m.at < paid.recovered_at
	                                       ORDER BY at DESC LIMIT 1) AS was), 0)::bigint,
	         round((l.asked - l.asked_back) * 0.1 + (l.unpaid - l.unpaid_back) * 0.3)::bigint, interval '90 days', 0.1, 0.3
	  FROM truth.total AS t
	  JOIN LATERAL (
	      SELECT coalesce(sum(mrr) FILTER (WHERE voluntary), 0)::bigint AS asked, coalesce(sum(mrr) FILTER (WHERE NOT voluntary), 0)::bigint AS unpaid,
	             coalesce(sum(back) FILTER (WHERE voluntary), 0)::bigint AS asked_back, coalesce(sum(back) FILTER (WHERE NOT voluntary), 0)::bigint AS unpaid_back
	      FROM (SELECT loss.*, least(loss.mrr, coalesce((
	                       SELECT sum(r.mrr_change) FROM truth.movement AS r
	                       WHERE r.customer = loss.customer AND r.movement = 'reactivation' AND r.at > loss.at AND r.at <= loss.at + interval '90 days'
	                         AND NOT EXISTS (SELECT FROM truth.loss AS later WHERE later.customer = loss.customer AND later.at < r.at
	                                         AND (later.at, later.subscription) > (loss.at, loss.subscription))), 0)) AS back
	            FROM truth.loss WHERE (loss.month, loss.currency) = (t.boundary, t.currency)) AS each) AS l ON true
	  WHERE t.boundary < '2026-01-01'));

is($node->safe_psql('postgres', qq(
	SELECT count(*), count(*) FILTER (WHERE l.cancellation_leak + l.payment_leak <> -b.churn)
	FROM stripe_churn_leak($year) AS l JOIN stripe_mrr_bridge($year) AS b USING (month, currency))),
	'48|0', 'what leaks is the churn of the bridge');

# ---------------------------------------------------------------------------
# Failed payments
# ---------------------------------------------------------------------------

agrees('declines by code',
	qq(SELECT code, known, currency, attempts, payments, amount, recovered, recovered_amount, share FROM stripe_decline_report($year)),
	q(SELECT code, code <> 'new_code_of_next_year', currency, attempts, payments, amount, recovered, recovered_amount,
	         round(attempts::numeric / (SELECT count(*) FROM truth.failure AS f WHERE f.currency = c.currency AND failed_at >= '2025-01-01'), 4)
	  FROM (SELECT code, currency, count(*) AS attempts, count(DISTINCT invoice) AS payments,
	               sum(amount) FILTER (WHERE first)::bigint AS amount,
	               count(DISTINCT invoice) FILTER (WHERE recovered_at IS NOT NULL) AS recovered,
	               coalesce(sum(amount) FILTER (WHERE first AND recovered_at IS NOT NULL), 0)::bigint AS recovered_amount
	        FROM (SELECT *, row_number() OVER (PARTITION BY invoice, code ORDER BY attempt) = 1 AS first
	              FROM truth.failure WHERE failed_at >= '2025-01-01') AS f
	        GROUP BY code, currency) AS c));

agrees('recovery by code and attempt',
	qq(SELECT code, attempt, currency, failed, recovered, rate, amount, recovered_amount FROM stripe_decline_recovery($year)),
	q(SELECT code, attempt, currency, count(*), sum((recovered_at IS NOT NULL)::integer), round(avg((recovered_at IS NOT NULL)::integer), 4),
	         sum(amount)::bigint, sum(CASE WHEN recovered_at IS NULL THEN 0 ELSE amount END)::bigint
	  FROM truth.failure WHERE failed_at >= '2025-01-01' GROUP BY 1, 2, 3));

agrees('retries in vain',
	qq(SELECT * FROM stripe_decline_wasted($year)),
	q(SELECT earlier.code, f.currency, count(*), sum(f.amount)::bigint
	  FROM truth.failure AS f
	  JOIN (SELECT DISTINCT ON (invoice, method) invoice, method, code, attempt FROM truth.failure
	        WHERE code IN ('expired_card', 'lost_card', 'stolen_card') ORDER BY invoice, method, attempt) AS earlier
	      ON (earlier.invoice, earlier.method) = (f.invoice, f.method) AND earlier.attempt < f.attempt
	  WHERE f.failed_at >= '2025-01-01' GROUP BY 1, 2));

agrees('failures that a new card would cure',
	q(SELECT customer, subscription, invoice, currency, amount, code, attempts, failed_at AT TIME ZONE 'UTC', ask, tell_customer
	  FROM stripe_decline_curable(livemode => true)),
	q(SELECT DISTINCT ON (invoice) customer, subscription, invoice, currency, amount, code, count(*) OVER (PARTITION BY invoice), failed_at,
	         CASE code WHEN 'expired_card' THEN 'correct_data' ELSE 'new_method' END, code NOT IN ('lost_card', 'stolen_card')
	  FROM (SELECT *, last_value(code) OVER (PARTITION BY invoice ORDER BY attempt ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS last_code
	        FROM truth.failure WHERE recovered_at IS NULL) AS f
	  WHERE last_code <> 'authentication_required'
	    AND subscription NOT IN (SELECT subscription FROM truth.cancellation WHERE ended_at IS NOT NULL)
	  ORDER BY invoice, attempt DESC));

agrees('at risk now',
	q(SELECT subscription, customer, currency, status, since AT TIME ZONE 'UTC', code, amount_due FROM stripe_at_risk(livemode => true)),
	q(SELECT DISTINCT ON (invoice) subscription, customer, currency, 'past_due', min(failed_at) OVER (PARTITION BY invoice), code, amount
	  FROM truth.failure AS f
	  WHERE recovered_at IS NULL AND subscription IN (
	      SELECT subscription FROM (SELECT DISTINCT ON (subscription) subscription, movement FROM truth.movement
	                                ORDER BY subscription, at DESC) AS last WHERE movement <> 'churn')
	  ORDER BY invoice, attempt DESC));

# ---------------------------------------------------------------------------
# Win-back: who was lost and came back, by two rules that hold some out
# ---------------------------------------------------------------------------

# What every subscription was told to be, and when, straight from the events; and
# the ends that were asked for, with what was lost and when they were back.
$node->safe_psql('postgres', q(
	CREATE TABLE truth.told AS
	SELECT payload #>> '{data,object,id}' AS subscription, payload #>> '{data,object,customer}' AS customer, (payload ->> 'created')::bigint AS at, ctid AS n,
	       (payload #>> '{data,object,created}')::bigint AS made,
	       payload #>> '{data,object,status}' IN ('active', 'trialing') AND payload #>> '{data,object,cancel_at}' IS NULL
	       AND payload #> '{data,object,cancel_at_period_end}' IS DISTINCT FROM 'true' AS stays
	FROM line WHERE payload #>> '{data,object,object}' = 'subscription';
	CREATE INDEX ON truth.told (customer);
	CREATE INDEX ON truth.told (subscription);
	CREATE TABLE truth.lost AS
	SELECT c.customer, c.subscription, c.ended_at, extract(epoch FROM c.ended_at AT TIME ZONE 'UTC')::bigint AS at, c.feedback, c.product, c.price, c.currency, truth.country_at(c.customer, c.ended_at) AS country,
	       (SELECT mrr FROM truth.movement AS m WHERE m.subscription = c.subscription AND m.at < c.ended_at AND m.mrr <> 0 ORDER BY m.at DESC LIMIT 1) AS mrr,
	       (SELECT min(t.at) FROM truth.told AS t WHERE t.customer = c.customer AND t.stays AND t.at > extract(epoch FROM c.ended_at AT TIME ZONE 'UTC')
	        AND t.made > extract(epoch FROM c.ended_at AT TIME ZONE 'UTC')) AS back
	FROM truth.cancellation AS c
	WHERE c.ended_at IS NOT NULL AND c.reason = 'cancellation_requested'
	  AND EXISTS (SELECT FROM truth.movement AS m WHERE m.subscription = c.subscription);
	CREATE FUNCTION truth.held_out(rule text, customer text) RETURNS boolean LANGUAGE sql
	RETURN ('x' || left(encode(sha256(convert_to(rule || E'\n' || customer, 'UTF8')), 'hex'), 8))::bit(32)::bigint < 0.3 * 4294967296;
	ANALYZE;

	INSERT INTO stripe_portal.winback_rule (name, livemode, active, trigger_on, reason, kind, subject, body, discount, wait, valid_for, holdout, cap_per_customer) VALUES
	    ('fifth', true, false, 'ended', '{cancellation_requested}', 'promotion_code', 's', 'b', '{"percent_off": 20, "duration": "repeating", "duration_in_months": 3}', '10 days', '20 years', 0.3, 100),
	    ('sorry', true, false, 'ended', '{cancellation_requested}', 'message', 's', 'b', NULL, '10 days', '20 years', 0.3, 100)));

# An invoice is for 1, 3 or 12 months, or for a week, of which there are 365 / 84 in a month.
agrees('whom a rule would have reached',
	q(SELECT extract(epoch FROM at)::bigint, customer, subscription, verdict, feedback, product, country, mrr, currency, cost
	  FROM stripe_winback_preview('fifth', '2023-01-01', livemode => true)),
	q(SELECT at, customer, subscription, verdict, feedback, product, country, mrr, currency,
	         CASE WHEN verdict = 'offer' THEN round(mrr * 0.2 * CASE WHEN price LIKE '%year%' THEN 12 WHEN product = 'prod_pass' THEN 14 * 84 / 365.0 ELSE 3 END)::bigint END
	  FROM (SELECT *, CASE WHEN back < at + 864000 THEN 'came back' WHEN truth.held_out('fifth', customer) THEN 'held out' ELSE 'offer' END AS verdict
	        FROM truth.lost) AS l));

# The offers as they were made on the days of the ends, and sent when they were
# due; early enough for the last look to be in the year.
$node->safe_psql('postgres', q(
	INSERT INTO stripe_portal.winback_offer
	SELECT o.* FROM stripe_portal.winback_rule AS r, stripe_portal.winback_case AS c, stripe_portal.winback_offer_row(r, c) AS o
	WHERE r.name = 'sorry' AND c.trigger_on = 'ended' AND c.at < '2025-09-20Z' AND stripe_portal.winback_fits(r, c);
	UPDATE stripe_portal.winback_offer SET state = 'sent', sent_at = due_at WHERE state = 'planned';
	SELECT count(stripe_portal.winback_settle(customer, true, '')) FROM (SELECT DISTINCT customer FROM stripe_portal.winback_offer) AS c;
));
agrees('what a rule did',
	q(SELECT segment, value, days, currency, offered, reached, accepted, held_out, saved, held_out_saved, saved_rate, held_out_rate, lift, mrr_kept, held_out_mrr_kept, discount_cost
	  FROM stripe_winback_lift('sorry', livemode => true)),
	q(SELECT segment, value, days, currency, offered, offered, accepted, held_out, saved, held_out_saved,
	         round(saved::numeric / nullif(offered, 0), 4), round(held_out_saved::numeric / nullif(held_out, 0), 4),
	         round((saved::float8 / nullif(offered, 0) - held_out_saved::float8 / nullif(held_out, 0))::numeric, 4),
	         CASE WHEN currency IS NOT NULL THEN kept END, CASE WHEN currency IS NOT NULL THEN held_out_kept END, CASE WHEN currency IS NOT NULL THEN 0::bigint END
	  FROM (SELECT segment, value, days, one AS currency,
	               count(*) FILTER (WHERE NOT held_out) AS offered, count(back) FILTER (WHERE NOT held_out) AS accepted, count(*) FILTER (WHERE held_out) AS held_out,
	               count(*) FILTER (WHERE alive AND NOT held_out) AS saved, count(*) FILTER (WHERE alive AND held_out) AS held_out_saved,
	               coalesce(sum(kept) FILTER (WHERE NOT held_out), 0)::bigint AS kept, coalesce(sum(kept) FILTER (WHERE held_out), 0)::bigint AS held_out_kept
	        FROM (SELECT l.*, truth.held_out('sorry', l.customer) AS held_out, days, later.*
	              FROM truth.lost AS l, (VALUES (7), (30), (90)) AS d (days),
	                   LATERAL (SELECT coalesce(bool_or(stays), false) AS alive,
	                                   coalesce(sum((SELECT mrr FROM truth.movement AS m WHERE m.subscription = s.subscription AND m.at <= l.ended_at + make_interval(days => 10 + days)
	                                                 ORDER BY m.at DESC LIMIT 1)) FILTER (WHERE stays), 0) AS kept
	                            FROM (SELECT DISTINCT ON (t.subscription) t.subscription, t.stays FROM truth.told AS t
	                                  WHERE t.customer = l.customer AND t.made > l.at AND t.at <= l.at + (10 + days) * 86400
	                                  ORDER BY t.subscription, t.at DESC, t.n DESC) AS s) AS later
	              WHERE l.ended_at < '2025-09-20' AND coalesce(back >= l.at + 864000, true)) AS member,
	             LATERAL (VALUES ('all', NULL), ('feedback', feedback), ('product', product), ('country', country)) AS s (segment, value),
	             LATERAL (VALUES (currency), (NULL)) AS c (one)
	        GROUP BY segment, value, days, one) AS figure));

is($node->safe_psql('postgres', q(SELECT bool_or(saved BETWEEN 1 AND accepted - 1), bool_or(held_out_saved > 0) FROM stripe_winback_lift('sorry', livemode => true) WHERE days = 90)),
	't|t', 'some came back and stayed, some did not');

$node->stop;
done_testing();

# The objects as a read of the API, then the events: half of the customers in
# order, half shuffled.  A customer's events are all in one half, so the two
# connections never wait for each other.
sub load
{
	$node->safe_psql('postgres', qq(
		CREATE EXTENSION stripe_portal;
		CREATE TABLE line (payload jsonb);
		COPY line FROM '$folder/objects.jsonl' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02');
		SELECT count(stripe_portal.apply_object(payload, true, '', '2024-01-01Z')) FROM line;
		TRUNCATE line;
		COPY line FROM '$folder/events.jsonl' WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02');
		INSERT INTO stripe_portal.event (id, livemode, type, created, object_id, payload, status, received_at)
		SELECT payload ->> 'id', true, payload ->> 'type', to_timestamp((payload ->> 'created')::bigint),
		       stripe_portal.object_id(payload #> '{data,object}'), payload, 'applied', now()
		FROM line;
		ANALYZE stripe_portal.event;
	));

	# A few first, then some more, so that the planner gets to know the tables:
	# a session keeps the plans that it made for small ones.
	my $share = q((hashtext(coalesce(payload #>> '{data,object,customer}', payload #>> '{data,object,id}')) & 31));
	my $apply = 'SELECT count(stripe_portal.apply_event(payload)) FROM (SELECT payload FROM line WHERE %s ORDER BY %s) AS e';
	my $in_order = q(payload ->> 'created', payload ->> 'id');
	$node->safe_psql('postgres', sprintf("$apply; ANALYZE", "$share = 0", $in_order));
	$node->safe_psql('postgres', sprintf("$apply; ANALYZE", "$share BETWEEN 1 AND 3", 'random()'));

	my @runs = map {
		my ($out, $err) = ('', '');
		{   err => \$err,
			run => IPC::Run::start(
				[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', "SELECT setseed(0.$seed)", '-c', $_ ],
				'<', \undef, '>', \$out, '2>', \$err)
		};
	} sprintf($apply, "$share BETWEEN 4 AND 17", $in_order), sprintf($apply, "$share > 17", 'random()');
	$_->{run}->finish foreach @runs;
	is(join('', map { ${ $_->{err} } } @runs), '', 'the year is applied, half of it in no order');

	$node->safe_psql('postgres', qq(
		CREATE SCHEMA truth;
		SET search_path = truth;
		SET timezone = 'UTC';
		CREATE FUNCTION utc(seconds text) RETURNS timestamp LANGUAGE sql RETURN to_timestamp(seconds::bigint) AT TIME ZONE 'UTC';
		CREATE TABLE country (customer text, since text, country text);
		CREATE TABLE movement (subscription text, customer text, at text, currency text, movement text, mrr_change bigint, mrr bigint,
		    product text, price text, start_date text);
		CREATE TABLE cancellation (subscription text, customer text, asked_at text, undone_at text, effective_at text, ended_at text,
		    reason text, feedback text, comment text, product text, price text, quantity integer, currency text, mrr bigint, start_date text);
		CREATE TABLE failure (charge text, invoice text, subscription text, customer text, currency text, code text, amount bigint,
		    attempt integer, failed_at text, method text, recovered_at text);
		COPY country FROM '$folder/country.tsv' WITH (HEADER);
		COPY movement FROM '$folder/movement.tsv' WITH (HEADER);
		COPY cancellation FROM '$folder/cancellation.tsv' WITH (HEADER);
		COPY failure FROM '$folder/failure.tsv' WITH (HEADER);
		ALTER TABLE country ALTER since TYPE timestamp USING utc(since);
		ALTER TABLE movement ALTER at TYPE timestamp USING utc(at), ALTER start_date TYPE timestamp USING utc(start_date);
		ALTER TABLE cancellation ALTER asked_at TYPE timestamp USING utc(asked_at), ALTER undone_at TYPE timestamp USING utc(undone_at),
		    ALTER effective_at TYPE timestamp USING utc(effective_at), ALTER ended_at TYPE timestamp USING utc(ended_at),
		    ALTER start_date TYPE timestamp USING utc(start_date);
		ALTER TABLE failure ALTER failed_at TYPE timestamp USING utc(failed_at), ALTER recovered_at TYPE timestamp USING utc(recovered_at);

		-- what each subscription was just before each month began
		CREATE TABLE boundary AS SELECT generate_series('2025-01-01', '2026-01-01', interval '1 month')::date AS boundary;
		CREATE TABLE month AS SELECT boundary AS month, (boundary + interval '1 month')::date AS next FROM boundary WHERE boundary < '2026-01-01';
		CREATE TABLE standing AS
		SELECT DISTINCT ON (b.boundary, m.subscription) b.boundary, m.subscription, m.customer, m.currency, m.mrr
		FROM boundary AS b JOIN movement AS m ON m.at < b.boundary
		ORDER BY b.boundary, m.subscription, m.at DESC;
		CREATE TABLE total AS
		SELECT boundary, currency, sum(mrr)::bigint AS mrr, count(DISTINCT customer) FILTER (WHERE mrr > 0) AS subscribers
		FROM standing GROUP BY 1, 2;

		-- the last country by then, also if the address has gone since; before the first one, that
		CREATE INDEX ON country (customer);
		CREATE FUNCTION country_at(customer text, at timestamp) RETURNS text LANGUAGE sql AS 'SELECT coalesce(
		    (SELECT country FROM truth.country AS c WHERE c.customer = country_at.customer AND country IS NOT NULL AND since <= at ORDER BY since DESC LIMIT 1),
		    (SELECT country FROM truth.country AS c WHERE c.customer = country_at.customer AND country IS NOT NULL ORDER BY since LIMIT 1))';

		-- what was lost: the ends, and what was left unpaid; gone is who had nothing else
		CREATE TABLE loss AS
		SELECT m.subscription, m.customer, m.at, m.currency, -m.mrr_change AS mrr, date_trunc('month', m.at)::date AS month,
		       coalesce(c.reason, 'unpaid') AS reason, coalesce(c.reason, '') = 'cancellation_requested' AS voluntary,
		       c.feedback, m.product, m.price, m.start_date, country_at(m.customer, coalesce(c.asked_at, m.at)) AS country,
		       NOT EXISTS (SELECT FROM (SELECT DISTINCT ON (o.subscription) o.movement FROM movement AS o
		                                WHERE o.customer = m.customer AND o.subscription <> m.subscription AND o.at <= m.at
		                                ORDER BY o.subscription, o.at DESC) AS other WHERE movement <> 'churn') AS gone
		FROM movement AS m
		LEFT JOIN cancellation AS c ON c.subscription = m.subscription AND c.ended_at = m.at
		WHERE m.movement = 'churn';
		CREATE INDEX ON loss (customer);
		CREATE INDEX ON movement (customer);
		CREATE INDEX ON movement (subscription);
		ANALYZE;
	));
}

# What a report says is what is true, row by row.
sub agrees
{
	my ($name, $report, $truth) = @_;
	my $answer = $node->safe_psql('postgres', qq(
		WITH report AS MATERIALIZED ($report), truth AS MATERIALIZED ($truth),
		     wrong AS (SELECT 'the report says ' || r::text AS line FROM (TABLE report EXCEPT ALL TABLE truth) AS r
		               UNION ALL SELECT 'true is ' || t::text FROM (TABLE truth EXCEPT ALL TABLE report) AS t)
		SELECT format('%s rows', (SELECT count(*) FROM truth)) UNION ALL (SELECT line FROM wrong ORDER BY line LIMIT 10)));
	my ($rows, $wrong) = split /\n/, $answer, 2;

	is($wrong, undef, "$name: $rows");
	cmp_ok($rows =~ s/ rows//r, '>', 0, "$name: there is something to agree on");
}
