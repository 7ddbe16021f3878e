# Sending win-back offers: a server that crashes between making a code at Stripe
# and recording it, workers at the same moment, one that is killed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_stand_in);
use Test::More;

# Debian's, which has the packages
my $python = '/usr/bin/python3';

my %stand_in = start_stand_in();

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => ['--encoding=UTF8']);
$node->append_conf('postgresql.conf', qq(
stripe_portal.api_base = '$stand_in{url}'
stripe_portal.ca_file = '$stand_in{ca_file}'
stripe_portal.api_key_file = '$stand_in{api_key_file}'
stripe_portal.winback_url = 'https://app.example.com/offer?t={token}'
));
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION stripe_portal;
	CREATE ROLE mailer LOGIN;
	GRANT EXECUTE ON FUNCTION stripe_winback_claim, stripe_winback_sent, stripe_winback_failed TO mailer;
	CREATE FUNCTION stand_in(method text, what text, params jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
		SELECT stripe_api(method, '/v1/test_helpers/stand_in/' || what, params) $$;
	CREATE FUNCTION codes(customer text) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM jsonb_array_elements(stand_in('GET', 'state') #> '{objects,promotion_code}') AS p WHERE p ->> 'customer' = customer $$;
	INSERT INTO stripe_portal.winback_rule (name, trigger_on, kind, discount, subject, body, html) VALUES
		('code', 'cancel_asked', 'promotion_code', '{"percent_off": 20, "duration": "once"}', 'Dear {{name|customer}}', 'Your code is {{code}}: {{link}}', '<a href="{{link}}">{{name}}</a>'),
		('plain', 'cancel_asked', 'message', NULL, 'Dear {{name|customer}}', 'Stay!', NULL);
	CREATE FUNCTION offer(rule text, n integer, name text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
		SELECT stand_in('POST', 'customers', jsonb_strip_nulls(jsonb_build_object('id', 'cus_' || n, 'email', n || '@example.com', 'name', name)));
		INSERT INTO stripe_portal.customer (id, livemode, email, name, event, event_created) VALUES ('cus_' || n, false, n || '@example.com', name, '', now());
		INSERT INTO stripe_portal.winback_offer (rule, livemode, customer, episode, trigger_on, kind, at, state, due_at, expires_at)
		SELECT r.name, false, 'cus_' || n, 'x', r.trigger_on, r.kind, now(), 'planned', now(), now() + interval '1 day'
		FROM stripe_portal.winback_rule AS r WHERE r.name = rule $$;
));
my $discounts = q(DO $$
	DECLARE place text;
	BEGIN
		LOOP
			place := stripe_portal.winback_discount_step(place);
			COMMIT;
			EXIT WHEN place IS NULL;
		END LOOP;
	END $$);
my $recorded = q(SELECT idempotency_key IS NOT NULL, promotion_code IS NOT NULL, codes(customer) FROM stripe_portal.winback_offer);

#
# The server dies after Stripe has made the code, before the answer is here
#
$node->safe_psql('postgres', q(SELECT offer('code', 0, E'Zoë <b>'); SELECT stand_in('POST', 'fault', '{"kind": "slow_first_byte", "seconds": 3, "path": "/v1/promotion_codes"}')));
my $tick = $node->background_psql('postgres', on_error_stop => 0);
$tick->query_until(qr/begun/, "\\echo begun\n$discounts;\n");
$node->poll_query_until('postgres', q(SELECT codes('cus_0') = 1)) or die 'no code was made';
is($node->safe_psql('postgres', $recorded), 't|f|1', 'a code is made, and is not recorded yet');
is( $node->safe_psql('postgres', q(SELECT count(*) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
	WHERE c.relname = 'winback_offer' AND l.mode NOT IN ('AccessShareLock') AND l.pid <> pg_backend_pid())),
	0, 'nothing is locked meanwhile');
$node->stop('immediate');
eval { $tick->quit };
$node->start;
is($node->safe_psql('postgres', $recorded), 't|f|1', 'the key survives the crash');
$node->safe_psql('postgres', $discounts);
is($node->safe_psql('postgres', $recorded), 't|t|1', 'the next tick records that code, and makes no other');

# the same when Stripe has forgotten the key
$node->safe_psql('postgres', q(UPDATE stripe_portal.winback_offer SET promotion_code = NULL, coupon = NULL, code = NULL;
	SELECT stand_in('POST', 'clock', '{"advance": 90000}');
	UPDATE stripe_portal.winback_offer SET expires_at = expires_at + interval '9 days'));
$node->safe_psql('postgres', $discounts);
is($node->safe_psql('postgres', $recorded), 't|t|1', 'nor when Stripe has forgotten the key');

# three at the same moment, by the tick that everybody calls
$node->safe_psql('postgres', q(SELECT offer('code', n) FROM generate_series(1, 4) AS n; UPDATE stripe_portal.winback_offer SET expires_at = now() + interval '9 days'));
my @ticks = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
$_->query_until(qr/begun/, "\\echo begun\nCALL stripe_portal_tick();\n") foreach @ticks;
$_->quit foreach @ticks;
$node->safe_psql('postgres', 'CALL stripe_portal_tick()');
is($node->safe_psql('postgres', "$recorded GROUP BY 1, 2, 3"), 't|t|1', 'three ticks at once make one code for each');

#
# The worker
#
# Starts a mail server that takes so many seconds for a message: its directory, its address, its process.
my $mailboxes = 0;
sub mailbox
{
	my ($seconds) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir() . '/mail' . ++$mailboxes;
	mkdir $dir;
	my $pid = open(my $mail, '-|', $python, 'test/mailbox.py', $dir, $seconds) or die "no mail server: $!";
	chomp(my $address = <$mail> // die 'the mail server did not start');
	return { dir => $dir, address => $address, pid => $pid, pipe => $mail };
}

sub worker
{
	my ($mailbox) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => 'mailer',
		WINBACK_FROM => 'Ada <ada@shop.example.com>', WINBACK_SMTP => $mailbox->{address});
	return IPC::Run::start([ $python, 'examples/winback_worker.py' ], '>', \my $out, '2>', \my $err);
}

sub mails
{
	my ($mailbox) = @_;
	return map { slurp_file($_) } glob "$mailbox->{dir}/*";
}

my $all_sent = q(SELECT bool_and(state = 'sent') FROM stripe_portal.winback_offer);

$node->safe_psql('postgres', q(SELECT offer('plain', n) FROM generate_series(10, 29) AS n));
my $mailbox = mailbox(0);
my @workers = map { worker($mailbox) } 1 .. 2;
ok($node->poll_query_until('postgres', $all_sent), 'two workers send everything');
my @mails = mails($mailbox);
is(scalar @mails, 25, 'each offer once');
my %to = map { /^To: (.*)$/m => 1 } @mails;
is(scalar keys %to, 25, 'to each customer');
my ($first) = grep { /^To: 0\@/m } @mails;
my $code = $node->safe_psql('postgres', q(SELECT code FROM stripe_portal.winback_offer WHERE customer = 'cus_0'));
like($first, qr{^Subject: Dear Zo\x{c3}\x{ab} <b>$}m, 'the subject has the name');
like($first, qr{^Your code is $code: https://app\.example\.com/offer\?t=[\w-]{72}$}m, 'the text has the code and the link');
like($first, qr{^<a href="https://app\.example\.com/offer\?t=[\w-]{72}">Zo\x{c3}\x{ab} &lt;b&gt;</a>$}m, 'the HTML is escaped');
like($first, qr{^Message-ID: <[0-9a-f-]{36}\@shop\.example\.com>$}mi, 'the id of the message is the offer\'s');

# They sleep for a minute now, unless they are notified.
my $began = time;
$node->safe_psql('postgres', q(SELECT offer('plain', 30); SELECT stripe_portal.winback_wake()));
ok($node->poll_query_until('postgres', $all_sent), 'a notification wakes them');
cmp_ok(time - $began, '<', 50, 'at once');
$_->kill_kill foreach @workers;

# One is killed in the middle of a message, with leases on what it has claimed.
$node->safe_psql('postgres', q(SELECT offer('plain', n) FROM generate_series(31, 33) AS n));
my $slow = mailbox(600);
my $doomed = worker($slow);
$node->poll_query_until('postgres', q(SELECT count(*) = 3 FROM stripe_portal.winback_offer WHERE state = 'claimed')) or die 'nothing is claimed';
$doomed->signal('KILL');
$doomed->finish;
is($node->safe_psql('postgres', q(SELECT count(*) FROM stripe_winback_claim(10))), 0, 'what a killed worker had is not free at once');
$node->safe_psql('postgres', q(UPDATE stripe_portal.winback_offer SET lease_until = now() WHERE state = 'claimed'));
my $other = worker($mailbox);
ok($node->poll_query_until('postgres', $all_sent), 'when the lease is over, another one sends it');
is(scalar mails($mailbox), 29, 'once');
is(scalar mails($slow), 0, 'and the killed one did not');
is($node->safe_psql('postgres', q(SELECT count(*) FROM stripe_portal.winback_offer WHERE attempts = 2)), 3, 'at the second attempt');
$other->kill_kill;

kill 'TERM', $mailbox->{pid}, $slow->{pid};
$node->stop;
done_testing();
