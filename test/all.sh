#!/usr/bin/env bash
#
# all.sh
#     Installs what is missing, builds the extension and runs every test.
#
# Usage: test/all.sh [STEP...]
#     Steps: lint regress isolation tap unit npm page fuzz asan dist; all of them by default.
#
# One line per test, with the numbers it ran with where they tell something, the
# differences of those that fail, and at the end "N passed, N failed".  PG_MAJOR
# chooses the PostgreSQL version, that of this Debian by default, and CC the
# compiler whose product is tested, gcc by default or clang.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

steps=("$@")
if ((${#steps[@]} == 0)); then
    steps=(lint regress isolation tap unit npm page fuzz asan dist)
fi

if [[ -z ${SP_WORK:-} ]]; then
    packages=("${RUN_PACKAGES[@]}" "${MAIL_PACKAGES[@]}" clang libclang-rt-dev libipc-run-perl shellcheck git
        "postgresql-$PG_MAJOR-cron" pgbouncer chromium fonts-dejavu-core python3-yaml)
    # Node often comes from elsewhere than Debian, npm included.
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    install_packages "${packages[@]}"
fi
run_in_copy test/all.sh "$@"

log=$SP_WORK/log
passed=0
failed=0

ok() {
    passed=$((passed + 1))
    say "ok      $*"
}

not_ok() {
    failed=$((failed + 1))
    say "FAILED  $*"
}

# Run COMMAND... with its output in a log, for at most twenty minutes.
logged() {
    local name=$1
    shift
    timeout --foreground -k 10 1200 "$@" >"$log/$name.log" 2>&1
}

# Show the end of a file that explains a failure, indented.
show() {
    if [[ -s $1 ]]; then
        tail -n "${2:-60}" "$1" | sed 's/^/        /'
    fi
}

# The numbers that a test says it ran with.
numbers() {
    sed -n 's/^# numbers: /        /p' "$@"
}

# The value of a variable of the Makefile.
make_variable() {
    # shellcheck disable=SC2016  # for make to expand
    make -s --eval='show-%: ; @echo $($*)' "show-$1"
}

# Take over the verdicts of a script that prints "ok NAME" or "not ok NAME"
# for each of its tests, and indented lines to explain.
collect() {
    local name=$1 line status=0 seen=0
    shift
    logged "$name" "$@" || status=$?
    while IFS= read -r line; do
        case $line in
            "ok "*) ok "$name: ${line#ok }"; seen=1 ;;
            "not ok "*) not_ok "$name: ${line#not ok }"; seen=1; status=0 ;;
            *) say "        $line" ;;
        esac
    done <"$log/$name.log"
    if ((status != 0 || seen == 0)); then
        not_ok "$name: exit status $status"
    fi
}

# One step of building; its status is the verdict.
# built NAME COMMAND...
built() {
    local name=$1
    shift
    if logged "$name" "$@"; then
        ok "build: $name"
    else
        not_ok "build: $name"
        show "$log/$name.log"
        return 1
    fi
}

# Build with both compilers, neither of which may warn; what the second made
# is installed.
build() {
    # PostgreSQL was configured for gcc: its flags and one attribute in its
    # headers are unknown to clang, which is no fault of ours.
    local compilers=(clang gcc) strict='-Wall -Wextra -Werror -Wno-unknown-warning-option
        -Wno-ignored-optimization-argument -Wno-ignored-attributes'

    strict=${strict//$'\n'/ }
    [[ ${CC:-gcc} != clang ]] || compilers=(gcc clang)
    private_server "$SP_WORK/pg"
    built "${compilers[0]}" make CC="${compilers[0]}" COPT="$strict" || true
    make -s clean
    built "${compilers[1]}" make CC="${compilers[1]}" COPT="$strict" && built install make install
}

# What pg_regress or pg_isolation_regress says of each of its tests.
# regress_verdicts NAME STATUS DIFFS TEST...
regress_verdicts() {
    local name=$1 status=$2 diffs=$3 test bad=0
    shift 3
    for test in "$@"; do
        # The first form is that of PostgreSQL 15, the second of later ones.
        if grep -Eq "^(test)? +$test +\.\.\. ok |^ok [0-9]+ +[-+] $test " "$log/$name.log"; then
            ok "$name: $test"
        else
            not_ok "$name: $test"
            bad=1
        fi
    done
    if ((status != 0 && bad == 0)); then
        not_ok "$name: exit status $status"
    fi
    if ((status != 0 || bad)); then
        if [[ -s $diffs ]]; then
            cp "$diffs" "$log/$name.diffs"
            show "$diffs" 400
        else
            show "$log/$name.log"
        fi
    fi
    if (($# == 0)); then
        not_ok "$name: no test found"
    fi
}

# A server that crashed or leaked during a test run says so in its log.
check_server_log() {
    local name=$1 file=$2
    cp "$file" "$log/$name-server.log"
    if grep -En 'PANIC|TRAP|terminated by signal|leak:|still referenced|sk_(test|live)_stand_in' \
        "$file" >"$log/$name-server.bad"; then
        not_ok "$name: the server log shows no crash, no leak and no key"
        show "$log/$name-server.bad"
    else
        ok "$name: the server log shows no crash, no leak and no key"
    fi
}

step_lint() {
    collect lint test/lint
}

step_regress() {
    local tests status=0
    read -ra tests <<<"$(make_variable REGRESS)"
    logged regress make installcheck ISOLATION= TAP_TESTS= || status=$?
    regress_verdicts regress "$status" regression.diffs "${tests[@]}"
    numbers results/*.out
    check_server_log regress log/postmaster.log
}

step_isolation() {
    local tests status=0
    read -ra tests <<<"$(make_variable ISOLATION)"
    PGISOLATIONTIMEOUT=60 logged isolation make installcheck REGRESS= TAP_TESTS= || status=$?
    regress_verdicts isolation "$status" output_iso/regression.diffs "${tests[@]}"
    check_server_log isolation output_iso/log/postmaster.log
}

# One run per file, so that each has a log of its own.  A test that skips
# itself proves nothing and is a failure here.
step_tap() {
    local file name began
    for file in test/t/*.pl; do
        if [[ ! -e $file ]]; then
            not_ok "tap: no test found"
            break
        fi
        name=$(basename "$file" .pl)
        began=$SECONDS
        if logged "tap-$name" make installcheck REGRESS= ISOLATION= PROVE_TESTS="$file" PROVE_FLAGS=--verbose &&
            ! grep -Eiq '^ok .*# skip|\.\. skipped' "$log/tap-$name.log"; then
            ok "tap: $name ($(grep -c '^ok [0-9]' "$log/tap-$name.log") checks, $((SECONDS - began)) s)"
            numbers "$log/tap-$name.log"
        else
            not_ok "tap: $name"
            grep -Ei '^not ok|^ok .*# skip|skipped:' "$log/tap-$name.log" >"$log/tap-$name.bad" || true
            grep -A 8 '^#   Failed test' "$log/tap-$name.log" >>"$log/tap-$name.bad" ||
                tail -n 20 "$log/tap-$name.log" >>"$log/tap-$name.bad"
            show "$log/tap-$name.bad"
            mkdir -p "$log/tap-$name"
            cp tmp_check/log/* "$log/tap-$name" 2>/dev/null || true
        fi
    done
}

step_unit() {
    local status=0 total bad
    logged unit python3 test/stand_in_test.py || status=$?
    # unittest ends in "Ran N tests in ..." and "FAILED (failures=1, errors=2)".
    total=$(sed -n 's/^Ran \([0-9]*\) tests\? in .*/\1/p' "$log/unit.log")
    bad=$(sed -n 's/^FAILED (\(.*\))$/\1/p' "$log/unit.log" | tr -cs '0-9' ' ')
    # shellcheck disable=SC2086  # a list of numbers
    bad=$(($(printf '%s + ' $bad)0))
    if ((status == 0 && ${total:-0} > 0)); then
        passed=$((passed + total))
        say "ok      unit: $total tests of the stand-in"
    else
        passed=$((passed + ${total:-0} - bad))
        failed=$((failed + (bad ? bad : 1)))
        say "FAILED  unit: $bad of ${total:-0} tests of the stand-in"
        show "$log/unit.log"
    fi
}

step_npm() {
    start_server "$SP_WORK/npm-server"
    collect npm python3 test/npm/check.py "$SP_WORK/npm"
    # in the server and with the client that are there now
    collect npm-requests test/with_stripe python3 test/npm/requests.py "$SP_WORK/npm"
}

step_page() {
    start_server "$SP_WORK/page-server"
    collect page python3 test/page/check.py "$SP_WORK/page"
    # on what was loaded for the page
    collect dashboards python3 test/dashboards.py
}

# The fuzz targets for a moment; longer runs are for the script itself.
step_fuzz() {
    collect fuzz test/fuzz/run.sh 10
}

# What is written in C and has the most bytes of others in it; the other tests
# are for the script itself.  It works in a copy of its own.
step_asan() {
    collect asan env -u SP_WORK test/sanitize.sh asan \
        api fetch signature webhook portal return_token configuration_apply
}

# Last, because it is the bundle's product that is installed then.
step_dist() {
    collect dist python3 test/dist.py "$SP_WORK/dist"
}

build || steps=()           # there is nothing to test then
for step in "${steps[@]}"; do
    case $step in
        lint) step_lint ;;
        regress) step_regress ;;
        isolation) step_isolation ;;
        tap) step_tap ;;
        unit) step_unit ;;
        npm) step_npm ;;
        page) step_page ;;
        fuzz) step_fuzz ;;
        asan) step_asan ;;
        dist) step_dist ;;
        *) not_ok "$step: no such step" ;;
    esac
done

say "$passed passed, $failed failed" >"$SP_WORK/summary"
if ((failed > 0 || passed == 0)); then
    exit 1
fi
