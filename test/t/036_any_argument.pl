# Every function for users meets arguments of all kinds, likely ones and such as
# nobody would think of: it works, or says in an error of its own what is wrong.
# None of them is an error of the server's, of a query or of a constraint, and
# afterwards everything works as before.
#
# SP_SEED repeats a run, SP_CALLS makes it longer or shorter.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Life;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $calls = $ENV{SP_CALLS} // 60;
my $dir = PostgreSQL::Test::Utils::tempdir();

# What an argument of this name can well be.
my %likely = (
	account => [q('')],
	by => [qw('product' 'price' 'country' 'feedback')],
	coupon => [qw('STAY20')],
	currency => [qw('eur' 'jpy')],
	customer => [qw('cus_ada' 'cus_ben' 'cus_cleo' 'cus_dora' 'cus_emil')],
	event => ['(SELECT id FROM stripe_portal.event ORDER BY id LIMIT 1)'],
	flow => [qw('access' 'reports' 'subscription_cancel' 'subscription_update' 'payment_method_update')],
	lease_for => [q('1 minute')],
	livemode => [qw(NULL false)],
	name => [qw('standard')],
	objects => [qw('{subscription}' '{product,price}' NULL)],
	options => [ q('{}'), q('{"locale": "de"}'), q('{"subscription": "sub_ada"}') ],
	period => [ "'[2026-01-01,2027-01-01)'", 'NULL' ],
	return_url => [qw('https://app.example.com/account?t={token}' NULL)],
	rule => [qw('stay' 'card' 'away')],
	subscription => [qw('sub_ada' 'sub_emil')],
	type => [qw('customer.*' 'invoice.paid')]);

# What it should not be, by type.
my %any = (
	text => [ qw(NULL '' 'x' '*' '%s%1$s' 'EUR' 'GET' 'cus_none' '../charges'), q('O''Reilly "\\'), "E'\\x01\\n'", 'chr(1114109)', "repeat('x', 100000)" ],
	boolean => [qw(NULL true false)],
	integer => [qw(NULL 0 1 -1 2147483647 '-2147483648')],
	numeric => [qw(NULL 0.5 -1 1e1000 1e-300 'NaN' 'Infinity' '-Infinity')],
	interval => [ qw(NULL '0' '1day'), "'178000000 years'", "'-178000000 years'" ],
	'timestamp with time zone' => [ qw(NULL now() 'infinity' '-infinity' '294276-12-31'), "'4713-01-01 BC'" ],
	daterange => [ qw<NULL 'empty' '(,)' '[2026-01-01,2026-02-01)' '[2026-01-01,infinity)' '[-infinity,infinity]'>, "'[4713-01-01 BC,5874897-12-31)'" ],
	jsonb => [ qw(NULL 'null' '[]' '{}' '"x"' '1e100000'), q('{"features": [], "flow_data": 1}'), "(repeat('[', 5000) || repeat(']', 5000))" ],
	json => [ qw(NULL 'null' '[1]' '{}'), q('{"body": 1, "headers": []}') ],
	bytea => [ qw(NULL '' '\x00ff'), "'{}'" ],
	uuid => [ 'NULL', "'00000000-0000-0000-0000-000000000000'", '(SELECT id FROM stripe_portal.winback_offer ORDER BY id LIMIT 1)' ],
	'text[]' => [qw(NULL '{}' '{NULL}' '{x,y}' '{{x},{y}}')],
	'timestamp with time zone[]' => [qw(NULL '{}' '{NULL,infinity}')],
	name => [qw(NULL '' 'oid')],
	regclass => [qw(NULL 0 4294967295 'pg_class')],
	regrole => [qw(NULL 0 4294967295)]);

# Which are errors of a function's own: of arguments, of what is not there, of
# rights, and those that README.md lists.
my $own = qr/^(22004|22023|22008|2202E|42704|42501|P0002|SP...)$/;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', stand_in_settings() . "stripe_portal.rate_limit = 1000\nfsync = off\n");
$node->start;
is(live($node, 'postgres'), '', 'there is a life');

srand($seed);
my @lines = ('');
foreach (split /\n/, $node->safe_psql('postgres', q(
	SELECT CASE p.prokind WHEN 'p' THEN 'CALL ' ELSE 'SELECT FROM ' END || p.oid::regproc,
		array_to_string(p.proargnames, ','), array_to_string(array(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n), ',')
	FROM pg_proc AS p
	JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
	JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'stripe_portal'
	WHERE p.proname LIKE 'stripe\_%' AND p.prorettype <> 'trigger'::regtype
	ORDER BY p.oid::regprocedure::text)))
{
	my ($function, $names, $types) = split /\|/;
	my @names = split /,/, $names;
	my @types = split /,/, $types;

	foreach (1 .. (@types ? $calls : 1))
	{
		my @arguments = map {
			my ($name, $type) = ($names[$_], $types[$_]);
			my $values = exists $likely{$name} && rand() < 0.7 ? $likely{$name} : $any{$type};
			$values->[ rand @$values ] . "::$type";
		} 0 .. $#types;
		push @lines, "$function(" . join(', ', @arguments) . ');';
	}
}
append_to_file("$dir/calls.sql", join "\n", "\\set VERBOSITY sqlstate", @lines[ 1 .. $#lines ]);

my %states;
my $errors = 0;
my @foreign;
my $began = time;
my ($stdout, $stderr);
is($node->psql('postgres', "\\i $dir/calls.sql", on_error_stop => 0, stdout => \$stdout, stderr => \$stderr,
	extra_params => [ '-o', '/dev/null' ], connstr => $node->connstr('postgres') . " options='-c client_min_messages=error -c statement_timeout=60s'"),
	0, 'the server goes on');
while ($stderr =~ /^psql:\S+:(\d+): (.*)$/mg)
{
	my ($line, $said) = ($1, $2);
	my ($state) = $said =~ /^ERROR:  (\w{5})$/;

	$state //= $said;
	$states{$state}++;
	$errors++;
	push @foreign, "$state: $lines[ $line - 1 ]" if $state !~ $own;
}
note "numbers: SP_SEED=$seed, $#lines calls, " . (time - $began) . ' s; ' . join ', ', map { "$states{$_} $_" } sort keys %states;
is(join("\n", @foreign), '', 'every error is one of a function\'s own');
cmp_ok($errors, '<', 2 / 3 * $#lines, 'and many a call was none');

$node->safe_psql('postgres', 'CALL stripe_portal_tick()');
is($node->safe_psql('postgres', "SELECT part, error FROM stripe_portal.tick_status WHERE state <> 'done'"), '', 'the tick works as before');

$node->stop;
done_testing();
