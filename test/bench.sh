#!/usr/bin/env bash
#
# bench.sh
#     Measures the extension beside its peers and beside what the machine
#     allows, prints the table, and writes it to BENCHMARKS.md.
#
# Usage: test/bench.sh [PIECE...]
#     The pieces are the scripts in test/bench.  Without any it runs all of
#     them, and only then it writes BENCHMARKS.md.
#
# A piece prints lines "name | figure | unit | ratio | goal | met", and "- …"
# for what there is to say of them.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

pieces=("$@")
if (($# == 0)); then
    for file in test/bench/*.sh; do
        if [[ $file != */lib.sh ]]; then
            pieces+=("$(basename "$file" .sh)")
        fi
    done
fi
# What else goes on is in the figures, if hardly in the ratios.
load=$(cut -d' ' -f1 /proc/loadavg)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# The rows of the table, and the remarks, in what the pieces printed.
rows() {
    awk -F' [|] ?' 'NF == 6' "$@"
}

remarks() {
    awk '/^- / { on = 1 } on && !/^- |^  / { on = 0 } on' "$@"
}

failed=()
for piece in "${pieces[@]}"; do
    [[ -x test/bench/$piece.sh ]] || die "there is no test/bench/$piece.sh"
    began=$SECONDS
    if ! "test/bench/$piece.sh" >"$out/$piece" || [[ -z $(rows "$out/$piece") ]]; then
        cat "$out/$piece" >&2
        failed+=("$piece")
    fi
    rows "$out/$piece"
    remarks "$out/$piece"
    say "($piece: $((SECONDS - began)) s)"
done
if ((${#failed[@]} > 0)); then
    die "failed: ${failed[*]}"
elif (($# > 0)); then
    exit 0
fi

# machine
#     What it was measured on, without anything that names the machine.
machine() {
    printf -- '- %s, %s cores, %s GB of memory, %s\n' \
        "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" \
        "$(awk '/^MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)" "$(uname -sr)"
    printf -- '- %s, %s, libcurl %s, Node %s\n' "$("/usr/lib/postgresql/$PG_MAJOR/bin/postgres" --version | sed 's/^postgres (PostgreSQL)/PostgreSQL/; s/ (.*//')" \
        "$(openssl version | cut -d' ' -f1,2)" "$(pkg-config --modversion libcurl)" "$(node --version)"
    printf -- '- load of the machine when this began: %s\n' "$load"
    if awk -v load="$load" -v cores="$(nproc)" 'BEGIN { exit load < cores / 2 }'; then
        printf -- '- **It had other work to do.** Ratios of what waits for the disk to what waits for it less are not to be relied on.\n'
    fi
    printf -- '- from npm: %s\n' "$(sed -n 's/^    "\(.*\)": "\([0-9.]*\)",\{0,1\}$/\1 \2/p' test/bench/package.json | paste -s -d, | sed 's/,/, /g')"
}

{
    cat <<'EOF'
# Benchmarks

Written by `./test/bench.sh`, which measures all of this in one run, on a server of its
own. A figure is a median. What is compared takes turns, round by round, on the same
data, so that whatever else the machine does hits all alike; a ratio is the median of the
rounds' ratios, and only ratios say something on another machine. What is measured
commits to disk unless a row says otherwise.

EOF
    machine
    for piece in "${pieces[@]}"; do
        printf '\n## %s\n\n| | Figure | Unit | Ratio | Goal | Met |\n|---|---|---|---|---|---|\n' "${piece^}"
        rows "$out/$piece" | sed 's/^/| /; s/$/ |/'
        if [[ -n $(remarks "$out/$piece") ]]; then
            printf '\n'
            remarks "$out/$piece"
        fi
    done
    printf '\n## Goals that are not met\n\n'
    for piece in "${pieces[@]}"; do
        rows "$out/$piece"
    done | awk -F' [|] ?' '$6 == "no" { printf "- %s: %s, and the goal is %s\n", $1, $5 ~ / ms$/ ? $2 " " $3 : $4, $5; any = 1 }
                           END { if (!any) print "None." }'
} >BENCHMARKS.md
say 'BENCHMARKS.md written'
