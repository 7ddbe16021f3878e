#!/usr/bin/env bash
#
# run.sh
#     Fuzzes what reads foreign bytes: builds the extension with libFuzzer,
#     AddressSanitizer and UndefinedBehaviorSanitizer, and runs each target in
#     a single-user server.
#
# Usage: test/fuzz/run.sh SECONDS [TARGET...]
#     Targets: signature form url token event answer; all of them by default.
#
# The inputs to begin with are those of seeds.py and those that once broke
# something, in corpus/TARGET.  What is found stays with the logs.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. test/lib.sh

if [[ -z ${SP_WORK:-} ]]; then
    [[ ${1:-} =~ ^[0-9]+$ ]] || die 'usage: test/fuzz/run.sh SECONDS [TARGET...]'
    install_packages "${RUN_PACKAGES[@]}" clang libclang-rt-dev
fi
run_in_copy test/fuzz/run.sh "$@"

seconds=$1
shift
targets=("$@")
if ((${#targets[@]} == 0)); then
    targets=(signature form url token event answer)
fi
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/$PG_MAJOR/bin/pg_config}
bin=$("$PG_CONFIG" --bindir)
dir=$SP_WORK/fuzz
found=$SP_WORK/log/fuzz
runtime=$(clang -print-file-name="libclang_rt.asan-$(uname -m).so")
driver=$(clang -print-file-name="libclang_rt.fuzzer_no_main-$(uname -m).a")

# shellcheck disable=SC2046  # lists of options
build() {
    clang -shared -fPIC -Wl,-z,initfirst test/asan_first.c -o "$dir/asan_first.so"
    clang -g -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls -fPIC -shared \
        -Wno-ignored-attributes -Wno-unused-command-line-argument \
        -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -shared-libsan \
        -DSP_VERSION='"fuzz"' -Isrc -Itest/fuzz -I"$("$PG_CONFIG" --includedir-server)" \
        $("$PG_CONFIG" --cppflags) $(pkg-config --cflags libcurl libcrypto) \
        src/*.c src/*/*.c test/fuzz/*.c -o "$dir/fuzz.so" \
        "$driver" -lstdc++ $(pkg-config --libs libcurl libcrypto)
}

# A backend frees its memory by contexts or not at all: leaks are looked for
# elsewhere, by what a process holds after many calls.
fuzz() {
    local target=$1 options
    options="-max_total_time=$seconds,-timeout=25,-rss_limit_mb=0,-max_len=8192,-dict=$PWD/test/fuzz/words"
    options+=",-print_final_stats=1,-artifact_prefix=$found/$target-"
    options+=",$found/learnt/$target,$dir/seeds/$target,$PWD/test/fuzz/corpus/$target"
    printf '%s\n' "CREATE OR REPLACE FUNCTION fuzz(text, text[]) RETURNS void AS '$dir/fuzz.so' LANGUAGE c;" \
        "SELECT fuzz('$target', '{$options}');" |
        ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1 \
        LD_PRELOAD="$runtime $dir/asan_first.so" timeout -k 10 $((seconds + 120)) \
        "$bin/postgres" --single -j -D "$dir/data" -c fsync=off postgres
}

mkdir -p "$dir" "$found"
build
python3 test/fuzz/seeds.py "$dir/seeds"
"$bin/initdb" -D "$dir/data" --encoding=UTF8 --no-locale --no-sync >"$found/initdb.log" 2>&1
status=0
for target in "${targets[@]}"; do
    mkdir -p "$found/learnt/$target" "test/fuzz/corpus/$target"
    if fuzz "$target" >"$found/$target.log" 2>&1 &&
        grep -q '^stat::number_of_executed_units: [1-9]' "$found/$target.log"; then
        echo "ok $target ($(sed -n 's/^stat::number_of_executed_units: //p' "$found/$target.log") runs)"
    else
        echo "not ok $target"
        tail -n 40 "$found/$target.log" | sed 's/^/    /'
        status=1
    fi
done
exit "$status"
