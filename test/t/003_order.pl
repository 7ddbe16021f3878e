# Histories of subscriptions, made up at random, delivered in random orders, by
# one connection and by eight at once that all deliver everything: the state and
# the history end the same, what the state shows without a mark is true, and the
# movements add up to it.
#
# SP_SEED repeats a run.

use strict;
use warnings;

use IPC::Run ();
use JSON::PP;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $histories = 150;
my $orders = 6;
my $clients = 8;

srand($seed);
note "SP_SEED=$seed: $histories histories, $orders orders, $clients clients";

my $price = {
	id => 'price_1', object => 'price', currency => 'usd', unit_amount => 1000,
	recurring => { interval => 'month', interval_count => 1, usage_type => 'licensed' } };
my $json = JSON::PP->new->canonical;
my (@events, %truth);
make_history($_) foreach 1 .. $histories;
note scalar(@events) . ' events';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'fsync = off');
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION stripe_portal;
	CREATE FUNCTION deliver(payload text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		receipt record;
	BEGIN
		receipt := stripe_receive_webhook(payload, stripe_sign_webhook(payload, 'whsec_order'));
		IF receipt.outcome NOT IN ('applied', 'duplicate') THEN
			RAISE 'event % is %: %', receipt.event, receipt.outcome, receipt.error;
		END IF;
	END $$;
));

my $rows;
foreach my $order (1 .. $orders)
{
	my $again = $events[ rand @events ];

	forget();
	$node->safe_psql('postgres', script(shuffle(@events, $again)));
	$rows //= rows();
	is(difference($rows, rows()), '', "order $order ends in the same rows");
}

# All clients at once, each with every event in an order of its own.
forget();
my @runs = map {
	my ($script, $out, $err) = (script(shuffle @events), '', '');
	{   err => \$err,
		run => IPC::Run::start(
			[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', '-', '-d', $node->connstr('postgres') ],
			'<', \$script, '>', \$out, '2>', \$err)
	};
} 1 .. $clients;
$_->{run}->finish foreach @runs;
is(join('', map { ${ $_->{err} } } @runs), '', "$clients clients at once get in no one's way");
is(difference($rows, rows()), '', 'and end in the same rows');
is($node->safe_psql('postgres', 'SELECT count(*) FROM stripe_portal.event'),
	scalar(@events), 'every event is in the ledger once');

# What is not marked is true; and most is not marked.
my ($marked, @wrong) = (0);
foreach my $line (split /\n/, $node->safe_psql('postgres', q(
	SELECT id, refetch, status, cancel_at IS NOT NULL, items -> 0 ->> 'quantity', coalesce(cancellation_feedback, '-')
	FROM stripe_portal.subscription)))
{
	my ($id, $refetch, $shown) = split /\|/, $line, 3;

	$marked++ if $refetch eq 't';
	push @wrong, "$id: $shown, but is $truth{$id}" if $refetch eq 'f' && $shown ne $truth{$id};
}
is(join("\n", @wrong), '', 'what is not marked for a refetch is true');
cmp_ok($marked, '<', $histories / 5, 'few are marked');
note "$marked of $histories are marked for a refetch";

# What came and went adds up to what is there, for each subscription.
is($node->safe_psql('postgres', q(
	SELECT s.id, stripe_portal.mrr(s, now()), sum(c.mrr_change)
	FROM stripe_portal.subscription AS s
	JOIN stripe_portal.subscription_change AS c ON c.subscription = s.id
	GROUP BY s.id, s.livemode, s.account
	HAVING stripe_portal.mrr(s, now()) <> coalesce(sum(c.mrr_change), 0))), '', 'the movements add up to the state');
cmp_ok($node->safe_psql('postgres', q(SELECT count(DISTINCT movement) FROM stripe_portal.subscription_change)),
	'>=', 4, 'in movements of many kinds');

$node->stop;
done_testing();

# One subscription from its creation, or from somewhere later, to somewhere.
# Two events out of three share a second with the one before.
sub make_history
{
	my ($n) = @_;
	my $id = "sub_$n";
	my $second = 1700000000;
	my %state = (status => 'active', cancel_at => undef, quantity => 1, feedback => undef);

	my @history = ([ 'created', {%state}, undef, $second ]) x (rand() < 0.5);
	foreach (1 .. 1 + int(rand(6)))
	{
		my %before = %state;
		my $type = 'updated';

		if ($state{status} eq 'canceled' || rand() < 0.3)
		{
			$state{feedback} = (undef, 'unused', 'too_complex')[ rand 3 ];
		}
		elsif (rand() < 0.1)
		{
			$state{status} = 'canceled';
			$type = 'deleted';
		}
		elsif (rand() < 0.5)
		{
			$state{cancel_at} = $state{cancel_at} ? undef : 1800000000;
		}
		else
		{
			$state{quantity} = 1 + int(rand(3));
			$state{status} = ('active', 'past_due')[ rand 2 ];
		}

		my @changed = grep { ($before{$_} // '') ne ($state{$_} // '') } sort keys %state;
		next unless @changed;
		$second += 1 if rand() < 0.33;
		push @history, [ $type, {%state}, $type eq 'deleted' ? undef : [ \%before, @changed ], $second ];
	}
	@history = ([ 'created', {%state}, undef, $second ]) unless @history;

	# ids say nothing about the order
	my @ids = shuffle(1 .. @history);
	foreach my $event (@history)
	{
		my ($type, $after, $change, $created) = @$event;
		my %data = (object => object($id, %$after));

		if ($change)
		{
			my ($before, @changed) = @$change;
			my $old = object($id, %$before);
			my %key = (status => 'status', cancel_at => 'cancel_at', quantity => 'items', feedback => 'cancellation_details');

			$data{previous_attributes} = { map { ($key{$_} => $old->{ $key{$_} }) } @changed };
		}
		push @events, $json->encode({
			id => "evt_${n}_" . pop @ids, object => 'event', type => "customer.subscription.$type",
			created => $created, livemode => JSON::PP::false, data => \%data });
	}
	$truth{$id} = join '|', $state{status}, $state{cancel_at} ? 't' : 'f', $state{quantity}, $state{feedback} // '-';
}

sub object
{
	my ($id, %state) = @_;

	return {
		id => $id, object => 'subscription', customer => customer($id), currency => 'usd', created => 1699999990, status => $state{status}, cancel_at => $state{cancel_at},
		cancellation_details => { feedback => $state{feedback} },
		items => { data => [ { id => 'si_1', quantity => $state{quantity}, price => $price } ] } };
}

# Three subscriptions each.
sub customer
{
	my ($n) = $_[0] =~ /(\d+)/;

	return 'cus_' . int($n / 3);
}

sub script
{
	return join '', "SET stripe_portal.webhook_secret = 'whsec_order';\n", map { "SELECT deliver('$_');\n" } @_;
}

sub forget
{
	$node->safe_psql('postgres', 'TRUNCATE stripe_portal.event, stripe_portal.subscription, stripe_portal.subscription_change');
}

# The lines that are in one but not in the other.
sub difference
{
	my ($expected, $got) = @_;
	my %count;

	$count{$_}-- foreach split /\n/, $expected;
	$count{$_}++ foreach split /\n/, $got;
	return join "\n", map { $count{$_} > 0 ? "+$_" : "-$_" } grep { $count{$_} } sort keys %count;
}

sub rows
{
	return $node->safe_psql('postgres', q(
		SELECT s::text FROM stripe_portal.subscription AS s ORDER BY id;
		SELECT c::text FROM stripe_portal.subscription_change AS c ORDER BY subscription, at;
	));
}
