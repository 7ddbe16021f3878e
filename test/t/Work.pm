# What the extension does, as works that a test breaks off: each has what
# prepares it, the call, and what is wrong if it was done by halves, or not at
# all, or twice.  n is different each time.

package Work;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(%work $work_setup);

our $work_setup = q(
	-- what differs between the tables and the stand-in, by no code of the extension's
	CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE sql AS $$
		WITH state AS MATERIALIZED (SELECT stand_in('GET', 'state') -> 'objects' AS objects),
		truth AS (
			SELECT concat_ws(' ', o ->> 'id', o ->> 'email') AS row FROM state, jsonb_array_elements(objects -> 'customer') AS o
			UNION ALL
			SELECT concat_ws(' ', o ->> 'id', o ->> 'status', o ->> 'customer', o ->> 'cancel_at', o #>> '{metadata,step}')
			FROM state, jsonb_array_elements(objects -> 'subscription') AS o),
		shown AS (
			SELECT concat_ws(' ', id, email) AS row FROM stripe_portal.customer WHERE NOT deleted
			UNION ALL
			SELECT concat_ws(' ', id, status, customer, extract(epoch FROM cancel_at)::bigint, metadata ->> 'step') FROM stripe_portal.subscription WHERE NOT livemode)
		SELECT coalesce('not here: ' || t.row, 'not true: ' || s.row) FROM truth AS t FULL JOIN shown AS s USING (row)
		WHERE t.row IS NULL OR s.row IS NULL $$;

	CREATE TABLE handled (event text);
	CREATE FUNCTION handle(e stripe_portal.event) RETURNS void LANGUAGE sql AS 'INSERT INTO public.handled VALUES (e.id)';
	INSERT INTO stripe_portal.event_handler VALUES ('customer.*', 'public.handle');
	-- an event is applied, handled and shown, or it is not there
	CREATE FUNCTION half_done() RETURNS SETOF text LANGUAGE sql AS $$
		SELECT format('event %s is %s, and was handled %s times', e.id, e.status, count(h))
		FROM stripe_portal.event AS e LEFT JOIN handled AS h ON h.event = e.id WHERE e.type LIKE 'customer.%'
		GROUP BY e.id, e.status HAVING count(h) <> 1 OR e.status <> 'applied'
		UNION ALL
		SELECT format('event %s was handled, and is not there', h.event) FROM handled AS h LEFT JOIN stripe_portal.event AS e ON e.id = h.event WHERE e.id IS NULL
		UNION ALL
		SELECT format('subscription %s shows step %s, not %s', o.id, s.metadata ->> 'step', o.step)
		FROM (SELECT e.object_id AS id, max((e.payload #>> '{data,object,metadata,step}')::integer) AS step
			  FROM stripe_portal.event AS e WHERE e.id LIKE 'evt\_received\_%' GROUP BY 1) AS o
		LEFT JOIN stripe_portal.subscription AS s USING (id) WHERE (s.metadata ->> 'step')::integer IS DISTINCT FROM o.step
		UNION ALL
		SELECT format('subscription %s begins %s times', c.subscription, count(*)) FROM stripe_portal.subscription_change AS c
		WHERE c.mrr_change = c.mrr AND c.mrr > 0 GROUP BY c.subscription HAVING count(*) > 1 $$;

	-- a delivery: each one moves its subscription on by a step
	CREATE FUNCTION body(n integer, i integer) RETURNS text LANGUAGE sql AS $$
		SELECT jsonb_build_object('id', format('evt_received_%s_%s', n, i), 'object', 'event', 'type', 'customer.subscription.updated', 'created', 1790000000 + i, 'livemode', true,
			'data', jsonb_build_object('object', jsonb_build_object('object', 'subscription', 'id', format('sub_received_%s_%s', n, i % 3), 'customer', format('cus_received_%s_%s', n, i % 3),
			'status', 'active', 'currency', 'usd', 'items', '{"data": []}'::jsonb, 'metadata', jsonb_build_object('step', i))))::text $$;
	CREATE PROCEDURE receive(n integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 20 LOOP
			PERFORM stripe_receive_webhook(body(n, i), stripe_sign_webhook(body(n, i), webhook_secret()));
			COMMIT;
			RAISE NOTICE 'answered %', format('evt_received_%s_%s', n, i);
		END LOOP;
	END $$;

	SELECT FROM stripe_api('POST', '/v1/products', '{"id": "prod_1", "name": "Pro"}');
	SELECT FROM stand_in('POST', 'prices', '{"id": "price_1", "product": "prod_1", "currency": "eur", "unit_amount": 2000, "recurring": {"interval": "month"}}');
	-- subscribers at Stripe of whom nothing is known here
	CREATE FUNCTION subscribers(n integer, many integer) RETURNS void LANGUAGE sql AS $$
		SELECT stand_in('POST', 'customers', jsonb_build_object('id', format('cus_%s_%s', n, i), 'email', format('%s_%s@example.com', n, i))),
			stand_in('POST', 'subscriptions', jsonb_build_object('id', format('sub_%s_%s', n, i), 'customer', format('cus_%s_%s', n, i), 'price', 'price_1'))
		FROM generate_series(1, many) AS i $$;
	CREATE FUNCTION cancel(n integer, many integer) RETURNS void LANGUAGE sql AS $$
		SELECT stripe_api('POST', format('/v1/subscriptions/sub_%s_%s', n, i), '{"cancel_at_period_end": true}') FROM generate_series(1, many) AS i $$;
	INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, subject, body, discount, holdout, since)
	VALUES ('stay', 'cancel_asked', 'promotion_code', 's', 'b', '{"percent_off": 20, "duration": "once"}', 0, now() - interval '10 days');
	CREATE FUNCTION at_stripe(kind text) RETURNS SETOF jsonb LANGUAGE sql AS $$
		SELECT o FROM jsonb_array_elements(stand_in('GET', 'state') -> 'objects' -> kind) AS o $$;
	-- from here on, everything is to be had as events
	SELECT stripe_portal.event_cursor_begin('');
);

our %work = (
	receive => {
		call => 'CALL receive(:n)',
		# what was answered is there, and Stripe sends all that was not again
		wrong => q(SELECT answered || ' was answered, and is lost' FROM unnest(':answered'::text[]) AS answered
			WHERE NOT EXISTS (SELECT FROM stripe_portal.event AS e WHERE e.id = answered)
			UNION ALL SELECT half_done()),
		done => q(SELECT count(*)::text FROM stripe_portal.event WHERE id LIKE 'evt\_received\_:n\_%' HAVING count(*) <> 20),
	},
	sync => {
		prepare => q(SELECT stand_in('POST', 'page_limit', '{"limit": 3}'), subscribers(:n, 12);
			TRUNCATE stripe_portal.sync_cursor, stripe_portal.customer, stripe_portal.subscription, stripe_portal.subscription_change,
				stripe_portal.price, stripe_portal.product, stripe_portal.event, handled),
		call => 'CALL stripe_sync()',
		wrong => 'SELECT half_done()',
		done => q(SELECT wrong() UNION ALL SELECT concat_ws(' ', object, state) FROM stripe_portal.sync_progress WHERE state <> 'done'),
	},
	tick => {
		prepare => 'SELECT subscribers(:n, 4), cancel(:n, 4)',
		call => 'CALL stripe_portal_tick()',
		wrong => 'SELECT half_done()',
		done => q(SELECT wrong()
			UNION ALL SELECT concat_ws(' ', part, error) FROM stripe_portal.tick_status WHERE state <> 'done'
			UNION ALL SELECT format('%s has %s offers, and %s codes at Stripe', c.id, count(DISTINCT o.id), count(p))
			FROM (SELECT format('cus_:n_%s', i) AS id FROM generate_series(1, 4) AS i) AS c
			LEFT JOIN stripe_portal.winback_offer AS o ON o.customer = c.id
			LEFT JOIN at_stripe('promotion_code') AS p ON p #>> '{metadata,winback_offer}' = o.id::text
			GROUP BY c.id HAVING count(DISTINCT o.id) <> 1 OR count(p) <> 1),
	},
	apply => {
		prepare => q(SELECT stripe_portal_configure('portal :n', cancel_flows => true, plan_changes => false)),
		call => q(SELECT stripe_portal_configuration_apply('portal :n')),
		wrong => q(SELECT 'two at Stripe' FROM at_stripe('billing_portal.configuration') AS c WHERE c #>> '{metadata,stripe_portal}' = 'portal :n' HAVING count(*) > 1),
		done => q(SELECT count(*) || ' at Stripe' FROM at_stripe('billing_portal.configuration') AS c
			JOIN stripe_portal.configuration AS k ON k.stripe_id = c ->> 'id' AND k.applied_at IS NOT NULL
			WHERE c #>> '{metadata,stripe_portal}' = 'portal :n' AND k.name = 'portal :n' HAVING count(*) <> 1
			UNION ALL SELECT path FROM stripe_portal_configuration_diff('portal :n')),
	},
	session => {
		prepare => q(SELECT subscribers(:n, 1), stripe_refresh('cus_:n_1')),
		call => q(SELECT stripe_portal_session('cus_:n_1', 'https://app.example.com/')),
		wrong => q(SELECT 'a row without a session' FROM stripe_portal.session WHERE stripe_id IS NULL AND refused IS NULL),
		done => q(SELECT 'no row' WHERE NOT EXISTS (SELECT FROM stripe_portal.session WHERE customer = 'cus_:n_1' AND stripe_id IS NOT NULL)),
	},
);

1;
