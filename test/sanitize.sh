#!/usr/bin/env bash
#
# sanitize.sh
#     Runs regression tests in a server that watches its memory.
#
# Usage: test/sanitize.sh asan|valgrind [TEST...]
#     Without TEST, all regression tests.
#
#   asan      the extension is built with AddressSanitizer and
#             UndefinedBehaviorSanitizer, whose runtime is preloaded into the
#             server: a step outside of an allocation, or into one that was
#             given back, ends the backend.
#   valgrind  the server and the extension run under memcheck, which also sees
#             what is read before it was written.
#
# Both see the allocations of malloc(): those of libcurl and OpenSSL, and those
# of the server's memory contexts, which take theirs in blocks.  Debian's server
# is not built to tell valgrind of the chunks within them, so a step from one
# chunk into its neighbour is not seen here; the fuzz targets see that.
#
# A test passes when no report comes with it.  That its output differs is said
# as well: everything takes longer here, and some tests notice.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

mode=${1:-}
[[ $mode == asan || $mode == valgrind ]] || die 'usage: test/sanitize.sh asan|valgrind [TEST...]'
if [[ -z ${SP_WORK:-} ]]; then
    packages=("${RUN_PACKAGES[@]}" clang libclang-rt-dev)
    [[ $mode == asan ]] || packages+=(valgrind)
    install_packages "${packages[@]}"
fi
run_in_copy test/sanitize.sh "$@"
shift

reports=$SP_WORK/log/reports
mkdir "$reports"

# The server's program becomes a script that starts it in the right surroundings;
# making a new cluster is not what is tested.
# watch COMMAND...
watch() {
    local bin
    bin=$("$PG_CONFIG" --bindir)
    mv "$bin/postgres" "$bin/postgres.real"
    cat >"$bin/postgres" <<END
#!/usr/bin/env bash
case " \$* " in
    *' --boot '* | *' --single '* | *' --check '* | *' -V '*) exec "$bin/postgres.real" "\$@" ;;
esac
exec $* "$bin/postgres.real" "\$@"
END
    chmod +x "$bin/postgres"
}

prepare_asan() {
    clang -shared -fPIC -Wl,-z,initfirst test/asan_first.c -o "$SP_WORK/asan_first.so"
    local sanitizers='-fsanitize=address,undefined -fno-sanitize-recover=undefined -shared-libsan'
    make -s CC=clang with_llvm=no COPT="-g -O1 -fno-omit-frame-pointer $sanitizers -Wno-ignored-attributes" install
    watch env LD_PRELOAD="'$(clang -print-file-name="libclang_rt.asan-$(uname -m).so") $SP_WORK/asan_first.so'" \
        ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=0:log_path=$reports/asan" \
        UBSAN_OPTIONS="print_stacktrace=1:log_path=$reports/asan"
}

prepare_valgrind() {
    make -s COPT='-g -O1' install
    watch valgrind --quiet --error-limit=no --num-callers=30 --gen-suppressions=all \
        --suppressions="$PWD/test/valgrind.supp" --log-file="$reports/valgrind.%p"
}

make -s clean
private_server "$SP_WORK/pg"
case $mode in
    asan) prepare_asan ;;
    valgrind) prepare_valgrind ;;
esac >"$SP_WORK/log/build.log" 2>&1

# shellcheck disable=SC2016  # for make to expand
read -ra tests <<<"${*:-$(make -s --eval='show-%: ; @echo $($*)' show-REGRESS)}"
[[ ${tests[0]} == install ]] || tests=(install "${tests[@]}")
# so that every backend is in the server's log
echo 'log_disconnections = on' >"$SP_WORK/server.conf"
PGCTLTIMEOUT=600 make installcheck ISOLATION= TAP_TESTS= REGRESS="${tests[*]}" \
    EXTRA_REGRESS_OPTS="--temp-config=$SP_WORK/server.conf" >"$SP_WORK/log/regress.log" 2>&1 || true
cp regression.diffs "$SP_WORK/log" 2>/dev/null || true

# A report is named after the process; the server's log knows which test had it.
status=0
declare -A reported
for report in $(find "$reports" -type f -size +0 | sort); do
    test=$(sed -n "s#.*\\[${report##*.}\\].* pg_regress/\\([a-z_]*\\) .*#\\1#p" log/postmaster.log | head -n 1)
    reported[${test:-server}]+=" $report"
done
for test in "${tests[@]}" server; do
    verdict=$(grep -E "^(test|ok|not ok) .*\b$test " "$SP_WORK/log/regress.log" || true)
    if [[ -n ${reported[$test]:-} ]]; then
        say "not ok $test"
        # shellcheck disable=SC2086  # a list of files
        cat ${reported[$test]} | head -n 80 | sed 's/^/    /'
        status=1
    elif [[ $test != server && -z $verdict ]]; then
        say "not ok $test: it did not run"
        status=1
    else
        say "ok $test$(grep -Eq 'FAILED|^not ok' <<<"$verdict" && echo ' (its output differed)')"
    fi
done
exit "$status"
