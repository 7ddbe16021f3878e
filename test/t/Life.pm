
# A database with a little of everything in it, told by test/life.sql with a
# stand-in for Stripe, and looking at all that is in one.

package Life;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use StandIn qw(start_stand_in);

our @EXPORT = qw(stand_in_settings run_file live contents rights);

# Starts a stand-in that lives as long as the test, and gives the settings that
# point the extension at it.
sub stand_in_settings
{
	my %stand_in = start_stand_in();

	$stand_in{api_base} = $stand_in{url};
	return join '', map { "stripe_portal.$_ = '$stand_in{$_}'\n" } qw(api_base ca_file api_key_file webhook_secret_file);
}

# Runs a script, and gives what it prints.
sub run_file
{
	my ($node, $db, $file, @options) = @_;
	my ($stdout, $stderr) = ('', '');

	PostgreSQL::Test::Utils::run_log(
		[ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', @options, '-f', $file, '-d', $node->connstr($db) ],
		'>', \$stdout, '2>', \$stderr) or die "$file: $stderr";
	chomp $stdout;
	return $stdout;
}

# Makes the extension there, and gives it a life; gives the tables without a row.
sub live
{
	my ($node, $db, $version) = @_;

	$node->safe_psql($db, 'CREATE EXTENSION stripe_portal' . ($version ? " VERSION '$version'" : ''));
	run_file($node, $db, "test/$_.sql") foreach qw(contents life);
	return $node->safe_psql($db, 'TABLE without_a_row');
}

# Everything in the extension's tables and sequences, and which partition it is
# in, in one text.
sub contents
{
	my ($node, $db, $where) = @_;

	return $node->safe_psql($db, "SET timezone = 'UTC'; SELECT relation, content FROM contents() " . ($where // ''));
}

# Who may do what with the extension's objects.
sub rights
{
	my ($node, $db) = @_;

	return $node->safe_psql($db, q(
		SELECT pg_describe_object(d.classid, d.objid, 0), array(SELECT a::text FROM unnest(coalesce(p.proacl, c.relacl, n.nspacl)) AS a ORDER BY 1)
		FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'stripe_portal'
		LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
		LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
		LEFT JOIN pg_namespace AS n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid
		WHERE coalesce(p.oid, c.oid, n.oid) IS NOT NULL
		ORDER BY 1;
		SELECT attrelid::regclass, attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid::regclass::text LIKE 'stripe_portal.%' ORDER BY 1, 2));
}

1;
