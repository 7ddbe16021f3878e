# Work that is broken off at any moment: the backend is killed, the server is
# killed, or statement_timeout strikes.  Afterwards nothing is lost, done by
# halves or done twice, neither here nor at Stripe, and doing it again does the
# rest.
#
# SP_SEED repeats the moments, as far as the machine does; SP_KILLS is how often
# each work is broken off in each way.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn qw(start_with_stand_in wait_until_up);
use Test::More;
use Time::HiRes qw(time usleep);
use Work qw(%work $work_setup);

my $seed = $ENV{SP_SEED} // int(rand(2**31));
my $kills = $ENV{SP_KILLS} // 4;
my $n = 0;

srand($seed);
note "numbers: SP_SEED=$seed";

my ($node) = start_with_stand_in('restart_after_crash = on');
$node->safe_psql('postgres', $work_setup);

foreach my $name (sort keys %work)
{
	my ($took, @problems);

	# the second is as long as all that follow
	foreach (1 .. 2)
	{
		my $began = prepare($name);
		finish(start($name));
		$took = time - $began;
		push @problems, problems($name, 'done');
	}
	is(join('', @problems), '', "$name is done, undisturbed");

	foreach my $victim (qw(backend server))
	{
		my $cut = 0;
		@problems = ();

		foreach (1 .. $kills)
		{
			prepare($name);
			my $run = start($name);
			usleep(rand($took) * 1e6);
			my @processes = $victim eq 'backend' ? $run->{pid} : server_processes();
			kill 'KILL', @processes;
			finish($run);
			$cut++ if $run->{err} =~ /server closed the connection|terminating connection/;
			if ($victim eq 'backend')
			{
				wait_until_up($node);
			}
			else
			{
				usleep(20_000) while grep { kill 0, $_ } @processes;
				$node->kill9;    # as it has to be told
				$node->start;
			}
			push @problems, problems($name, 'wrong', $run->{err});
			finish(start($name));
			push @problems, problems($name, 'done');
		}
		is(join('', @problems), '', "$name, after the $victim was killed");
		note sprintf 'numbers: %s, %s killed %d times within %d ms, %d times in the middle of it', $name, $victim, $kills, $took * 1000, $cut;
	}

	prepare($name);
	@problems = ();
	my $timeout = 1;
	my $run;
	for (my $tries = 1;; $tries++)
	{
		$run = start($name, $timeout);
		finish($run);
		note "numbers: $name, done within $timeout ms in try $tries" if !$run->{failed};
		last if !$run->{failed};
		push @problems, $run->{err} if $run->{err} !~ /canceling statement due to statement timeout/;
		push @problems, problems($name, 'wrong', $run->{err});
		die "$name does not end" if $timeout > 120_000;
		$timeout = int($timeout * 1.4) + 1;
	}
	push @problems, problems($name, 'done');
	is(join('', @problems), '', "$name, after every statement_timeout from 1 ms on");
}

$node->stop;
done_testing();

# Makes ready for the next run of a work; gives the time.
sub prepare
{
	my ($name) = @_;

	$n++;
	$node->safe_psql('postgres', "SELECT stand_in('POST', 'reset');" . filled($work{$name}{prepare} // 'SELECT'));
	return time;
}

# The postmaster, first, and its children, which would go on without it.
sub server_processes
{
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

	# a process may be gone before it is looked at
	my @children = grep { (eval { slurp_file("/proc/$_/stat") } // '') =~ /\) \S $postmaster / } map { m{(\d+)$} } glob '/proc/[0-9]*';

	return ($postmaster, @children);
}

sub start
{
	my ($name, $timeout) = @_;
	my %run = (out => '', err => '');

	$run{psql} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', 'SELECT pg_backend_pid()',
			'-c', 'SET statement_timeout = ' . ($timeout // 0), '-c', filled($work{$name}{call}) ],
		'>', \$run{out}, '2>', \$run{err}, IPC::Run::timeout(300));
	$run{psql}->pump until $run{out} =~ /^(\d+)\n/;
	$run{pid} = $1;
	return \%run;
}

sub finish
{
	my ($run) = @_;

	$run->{psql}->finish;
	$run->{failed} = $run->{psql}->result(0) != 0;
	return;
}

# What a check of a work finds, each on a line; told is what the client heard.
sub problems
{
	my ($name, $check, $told) = @_;
	my $answered = join ',', ($told // '') =~ /NOTICE:  answered (\w+)/g;

	my $found = $node->safe_psql('postgres', filled($work{$name}{$check}) =~ s/:answered/{$answered}/gr);
	return $found eq '' ? '' : "$n: $found\n";
}

sub filled
{
	return $_[0] =~ s/:n(?![a-z])/$n/gr;
}
