
# Histories of Stripe's objects, made up at random.
#
# A history is what happens to one object, or to a few that belong together:
# events in the order in which they happened, each with what Stripe would put
# into it.  Two out of three share a second with the one before, and ids say
# nothing about the order.  Some begin in the middle of the object's life, some
# events come twice, some objects are also read from the API now and then.

package Histories;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use List::Util qw(shuffle);

our @EXPORT_OK = qw(history_kinds make_history);

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $json = JSON::PP->new->canonical;

# What does not change in a price.
my %terms = (currency => 'usd', unit_amount => 1000, billing_scheme => 'per_unit', type => 'recurring',
	recurring => { interval => 'month', interval_count => 1, usage_type => 'licensed' });

# What can become of an object of each kind: its state at first, how it changes
# (which returns the type of the event; a type other than "updated" mostly does
# not tell what it changed), how Stripe shows it, and what its row has to say.
my %kind = (
	subscription => {
		prefix => 'customer.subscription',
		start => sub { status => pick('incomplete', 'active'), cancel_at => undef, quantity => 1, feedback => undef, discount => undef },
		change => \&change_subscription,
		object => sub {
			my ($id, %s) = @_;
			my ($n) = $id =~ /(\d+)/;
			# customers have several, and a history of their own; many have a
			# price in common, and some prices have a history
			return { object => 'subscription', id => $id, customer => customer_near($n), currency => 'usd', created => 1699999990,
				status => $s{status}, cancel_at => $s{cancel_at}, discounts => [ $s{discount} // () ],
				cancellation_details => { reason => undef, feedback => $s{feedback} },
				items => { data => [ { id => "si_$id", quantity => $s{quantity}, price => { object => 'price', id => 'price_' . int($n / 10), %terms } } ] } };
		},
		row => sub {
			my (%s) = @_;
			return { status => $s{status}, cancel_at => $s{cancel_at} && '2027-01-15T08:00:00+00:00',
				cancellation_feedback => $s{feedback}, discounts => [ $s{discount} // () ] };
		},
	},
	invoice => {
		start => sub { status => 'draft', attempt_count => 0, amount_due => 100 },
		change => \&change_invoice,
		object => sub { my ($id, %s) = @_; return { object => 'invoice', id => $id, customer => 'cus_1', subscription => undef, %s } },
	},
	payment_intent => {
		start => sub { status => 'requires_payment_method', amount => 100 },
		change => sub {
			my ($s) = @_;
			return if $s->{status} =~ /succeeded|canceled/;
			$s->{status} = pick(qw(processing requires_action requires_payment_method succeeded canceled));
			return $s->{status} =~ /method/ ? 'created' : $s->{status};
		},
		object => sub { my ($id, %s) = @_; return { object => 'payment_intent', id => $id, customer => 'cus_1', %s } },
	},
	dispute => {
		prefix => 'charge.dispute',
		start => sub { status => 'needs_response', amount => 100 },
		change => sub {
			my ($s) = @_;
			return if $s->{status} =~ /won|lost/;
			$s->{status} = pick(qw(needs_response under_review won lost));
			return $s->{status} =~ /won|lost/ ? 'closed' : pick('updated', 'updated', 'funds_withdrawn');
		},
		object => sub { my ($id, %s) = @_; return { object => 'dispute', id => $id, %s } },
	},
	payment_method => {
		first => 'attached',
		start => sub { customer => 'cus_1', exp_year => 2030 },
		change => sub {
			my ($s) = @_;
			return if !$s->{customer};
			$s->{exp_year}++ if rand() < 0.7 or return ($s->{customer} = undef, 'detached')[1];
			return pick('updated', 'automatically_updated');
		},
		object => sub {
			my ($id, %s) = @_;
			return { object => 'payment_method', id => $id, customer => $s{customer}, type => 'card', card => { exp_year => $s{exp_year} } };
		},
		row => sub { my (%s) = @_; return { exp_year => $s{exp_year}, attached => $s{customer} ? $true : $false } },
	},
	entitlement => {
		prefix => 'entitlements.active_entitlement_summary',
		first => 'updated',
		start => sub { keys => '' },
		change => sub { $_[0]{keys} = join '', grep { rand() < 0.5 } qw(a b c d); return 'updated' },
		object => sub {
			my ($id, %s) = @_;
			return { object => 'entitlements.active_entitlement_summary', customer => $id, entitlements => { object => 'list',
				has_more => $false, data => [ map { { lookup_key => $_ } } split //, $s{keys} ] } };
		},
		row => sub { my (%s) = @_; return { lookup_keys => [ split //, $s{keys} ] } },
	},
	# Stripe's name for it has a prefix; no event has the products, and they matter
	# only if plan changes are on
	billing_portal_configuration => {
		prefix => 'billing_portal.configuration',
		start => sub { name => 'a', active => $true, update => pick($true, $false, $false, $false), products => 'a', updated => 1700000000 },
		change => sub {
			my ($s) = @_;
			my $what = pick(qw(name active products products));

			$s->{$what} = $what eq 'active' ? pick($true, $false) : pick(qw(a b c));
			return 'updated';
		},
		object => sub {
			my ($id, %s) = @_;
			return { object => 'billing_portal.configuration', id => $id, name => $s{name}, active => $s{active}, updated => $s{updated},
				features => { subscription_update => { enabled => $s{update} } } };
		},
		read => sub {
			my ($object, %s) = @_;
			$object->{features}{subscription_update}{products} = [ $s{products} ];
		},
		row => sub {
			my (%s) = @_;
			return { name => $s{name}, active => $s{active}, $s{update} ? (products => [ $s{products} ]) : () };
		},
	},
	# who moves, at times without anything else
	customer => do {
		my $named = named('customer', 'email', 'delinquent');

		+{ %$named,
			start => sub { $named->{start}->(), address => pick(undef, { country => 'DE', city => 'Ulm' }) },
			change => sub {
				my ($s) = @_;
				return $named->{change}->($s) if rand() < 0.5;
				$s->{address} = pick(undef, map { +{ country => $_, city => pick('Ulm', 'Metz') } } qw(DE FR IT));
				return 'updated';
			} };
	},
	product => named('product', 'name', 'active'),
	price => named('price', 'nickname', 'active'),
	coupon => named('coupon', 'name', 'valid'),
	promotion_code => named('promotion_code', 'code', 'active'),
	discount => {
		prefix => 'customer.discount',
		start => sub { end => undef },
		change => sub { $_[0]{end} = pick(undef, 1800000000, 1900000000); return 'updated' },
		object => sub { my ($id, %s) = @_; return { object => 'discount', id => $id, %s, coupon => { object => 'coupon', id => $id =~ s/.*_(\d+?)\d?$/coupon_$1/r, percent_off => 10 } } },
		row => sub { my (%s) = @_; return { end => $s{end} && ($s{end} < 1850000000 ? '2027-01-15T08:00:00+00:00' : '2030-03-17T17:46:40+00:00') } },
		deletes => 1,
	},
);

sub history_kinds
{
	return (sort(keys %kind), 'payment');
}

# One of the customers that have a history, the same for forty numbers.
sub customer_near
{
	my ($n) = @_;
	my @kinds = history_kinds();
	my ($position) = grep { $kinds[$_] eq 'customer' } 0 .. $#kinds;

	return 'customer_' . (int($n / 40) * 2 * @kinds + $position);
}

# One history: its events, encoded, and what has to be true in the end: the
# table, the key, and some columns of the row.
sub make_history
{
	my ($name, $n) = @_;

	return make_payment($n) if $name eq 'payment';

	my $kind = $kind{$name};
	my $id = "${name}_$n";
	my $prefix = $kind->{prefix} // $name;
	my $second = 1700000000;
	my %state = $kind->{start}->();
	my $deleted = 0;
	my (@history, %had);

	push @history, [ $second, $kind->{first} // 'created', $kind->{object}->($id, %state) ] if rand() < 0.6;
	foreach (1 .. 1 + int(rand(8)))
	{
		my %before = %state;
		my $type = $kind->{change}->(\%state);

		$type = 'deleted' if $kind->{deletes} && rand() < 0.15;
		next unless defined $type && ($type eq 'deleted' || %{ difference(\%before, \%state) });
		$type = 'updated' if $type eq 'created';
		$deleted ||= $kind->{deletes} && $type eq 'deleted';
		$second += 1 + int(rand(2)) if rand() < 0.33;
		$state{updated} = $second if $state{updated};

		my ($before, $after) = map { $kind->{object}->($id, %$_) } \%before, \%state;
		my $previous = $type =~ /updated$|detached/ ? difference($before, $after) : undef;
		push @history, [ $second, $type, $after, $previous ];

		# said twice, in two events or in one that comes twice
		push @history, [ $second, 'payment_succeeded', $after ] if $type eq 'paid';
		# read from the API, in the same second or later; a payment method that
		# was detached does not tell any more whose it was
		next if $deleted || $name eq 'payment_method' || rand() < ($kind->{read} ? 0.4 : 0.85);
		$second += int(rand(2));
		$after = $kind->{object}->($id, %state);
		$kind->{read}->($after, %state) if $kind->{read};
		push @history, [ $second, undef, $after ];
	}
	@history = ([ $second, $kind->{first} // 'created', $kind->{object}->($id, %state) ]) unless @history;
	push @history, [ $second, undef, { object => $history[0][2]{object}, id => $id, deleted => $true } ]
	  if $deleted && rand() < 0.5;

	my $row = $deleted ? { deleted => $true } : ($kind->{row} // sub { return {@_} })->(%state);
	return (encode("${name}_$n", $prefix, @history), [ $name, $id, $json->encode($row) ]);
}

# A failed attempt, told by a charge, an intent and an invoice, in old and in
# new shapes, and what became of it.
sub make_payment
{
	my ($n) = @_;
	my $second = 1700000000 + int(rand(3));
	my $old = rand() < 0.5;
	my %link = $old ? (invoice => "in_p$n") : ();
	my %invoice = (object => 'invoice', id => "in_p$n", customer => "cus_p$n", status => 'open', amount_remaining => 100 + $n, currency => 'eur',
		attempt_count => 1, next_payment_attempt => 1700009999,
		$old ? (subscription => "sub_p$n", payment_intent => "pi_p$n") : (parent => { subscription_details => { subscription => "sub_p$n" } }));
	my %intent = (object => 'payment_intent', id => "pi_p$n", customer => "cus_p$n", amount => 100 + $n, currency => 'eur', %link);
	my @history = (
		[ $second, 'charge.failed', { object => 'charge', id => "ch_p$n", status => 'failed', customer => "cus_p$n", payment_intent => "pi_p$n",
			amount => 100 + $n, currency => 'eur', failure_code => 'card_declined', created => $second,
			outcome => { type => 'issuer_declined', reason => 'lost_card' }, %link } ],
		[ $second + int(rand(2)), 'payment_intent.payment_failed', { %intent, status => 'requires_payment_method',
			last_payment_error => { charge => "ch_p$n", code => 'card_declined', decline_code => 'lost_card', advice_code => 'do_not_try_again' } } ],
		[ $second + int(rand(3)), 'invoice.payment_failed', {%invoice} ]);
	my $paid = rand() < 0.5;

	push @history, [ $second + 60, 'payment_intent.succeeded', { %intent, status => 'succeeded' } ],
	  [ $second + 60, 'invoice.paid', { %invoice, status => 'paid', attempt_count => 2, status_transitions => { paid_at => 1700000060 } } ],
	  $old ? () : [ $second + 60, 'invoice_payment.paid', { object => 'invoice_payment', id => "inpay_p$n", invoice => "in_p$n",
			payment => { type => 'payment_intent', payment_intent => "pi_p$n" } } ]
	  if $paid;
	return (encode("p$n", undef, @history), [ 'payment_failure', "ch_p$n", $json->encode({
		decline_code => 'lost_card', advice_code => 'do_not_try_again', outcome_type => 'issuer_declined', invoice => "in_p$n",
		subscription => "sub_p$n", attempt_number => 1, recovered_at => $paid ? '2023-11-14T22:14:20+00:00' : undef }) ]);
}

sub encode
{
	my ($name, $prefix, @history) = @_;
	my @numbers = shuffle(1 .. @history);

	return [ map {
		my ($second, $type, $object, $previous) = @$_;
		my $number = pop @numbers;
		$json->encode(!defined $type ? { as_of => $second, object => $object } : {
			id => "evt_${name}_$number", object => 'event', type => join('.', $prefix // (), $type), created => $second, livemode => $false,
			data => { object => $object, $previous ? (previous_attributes => $previous) : () } })
	} @history ];
}

# What Stripe would give as previous_attributes: nested hashes hold only what
# changed, lists are whole.
sub difference
{
	my ($before, $after) = @_;
	my %changed;

	foreach my $key (keys %$after)
	{
		my ($old, $new) = ($before->{$key}, $after->{$key});

		next if $json->encode([$old]) eq $json->encode([$new]);
		$changed{$key} = ref $old eq 'HASH' && ref $new eq 'HASH' ? difference($old, $new) : $old;
	}
	return \%changed;
}

sub change_subscription
{
	my ($s) = @_;

	if ($s->{status} eq 'canceled' || rand() < 0.3)
	{
		$s->{feedback} = pick(undef, 'unused', 'too_complex');
	}
	elsif (rand() < 0.1)
	{
		$s->{status} = 'canceled';
		return 'deleted';
	}
	elsif (rand() < 0.1)
	{
		return $s->{status} = 'paused';
	}
	elsif (rand() < 0.5)
	{
		$s->{cancel_at} = $s->{cancel_at} ? undef : 1800000000;
	}
	else
	{
		$s->{quantity} = 1 + int(rand(3));
		$s->{discount} = pick(undef, 'di_a', 'di_b');
		$s->{status} = pick('active', 'past_due');
	}
	return 'updated';
}

sub change_invoice
{
	my ($s) = @_;

	return if $s->{status} eq 'void';
	if ($s->{status} eq 'draft')
	{
		($s->{amount_due} += 10, return 'updated') if rand() < 0.4;
		$s->{status} = 'open';
		return 'finalized';
	}
	return if $s->{status} eq 'paid';
	if (rand() < 0.5)
	{
		$s->{attempt_count}++;
		return pick('payment_failed', 'updated');
	}
	$s->{status} = pick('paid', 'paid', 'void', 'uncollectible') ;
	return { paid => 'paid', void => 'voided', uncollectible => 'marked_uncollectible' }->{ $s->{status} };
}

# What most of the catalogue is like: two things that change, and metadata.
sub named
{
	my ($name, $first, $second) = @_;

	return {
		start => sub { $first => 'a', $second => $true, metadata => { n => '1' } },
		change => sub {
			my ($s) = @_;

			if (rand() < 0.6) { $s->{$first} = pick(qw(a b c)) }
			else { $s->{$second} = pick($true, $false) }
			$s->{metadata} = { n => pick(qw(1 2)) } if rand() < 0.3;
			return 'updated';
		},
		# a coupon as a read of the API has it, with what no event tells
		object => sub {
			my ($id, %s) = @_;
			return { object => $name, id => $id, %s, $name eq 'price' ? %terms : $name eq 'coupon' ? (applies_to => undef) : () };
		},
		deletes => $name ne 'promotion_code',
	};
}

sub pick
{
	return $_[ rand @_ ];
}

1;
