# shellcheck shell=bash
#
# lib.sh
#     What the pieces of the benchmark share: a server that commits to disk,
#     and the lines they print.
#
# Absolute figures mean little on a machine that does other things as well.  So
# the variants of a comparison take turns, round by round; what each took in a
# round goes into a file of its own, and a ratio is the median of the rounds'
# ratios.

# shellcheck disable=SC2034  # read by the scripts that source this file
BENCH_PACKAGES=(libpq-dev)
rounds=${BENCH_ROUNDS:-5}
delivery=${SP_WORK:-}/delivery

# bench_copy SCRIPT ARGUMENT...
#     run_in_copy, with what all pieces need installed before.
bench_copy() {
    local packages=("${RUN_PACKAGES[@]}" "${BENCH_PACKAGES[@]}")

    if [[ -z ${SP_WORK:-} ]]; then
        command -v node >/dev/null || packages+=(nodejs)
        command -v npm >/dev/null || packages+=(npm)
        install_packages "${packages[@]}"
    fi
    run_in_copy "$@"
}

# bench_server [OPTION...]
#     Builds and installs the extension, and starts a server that waits for its
#     disk as one in production does.
# shellcheck disable=SC2120  # most have no options
bench_server() {
    private_server "$SP_WORK/pg"
    make -s install >"$SP_WORK/log/build.log" 2>&1
    printf 'whsec_bench\n' >"$SP_WORK/secret"
    chmod 600 "$SP_WORK/secret"
    start_server "$SP_WORK/server" -c fsync=on -c shared_buffers=256MB -c max_wal_size=4GB \
        -c "stripe_portal.webhook_secret_file=$SP_WORK/secret" "$@"
    mkdir "$SP_WORK/seconds"
}

# build_deliver
#     The client that sends what "events.py sign" has written to $delivery.
build_deliver() {
    gcc -O2 -I"$("$PG_CONFIG" --includedir)" -o "$SP_WORK/deliver" test/bench/deliver.c -lpq
}

# deliver DATABASE CLIENTS BATCH STATEMENT
deliver() {
    PGDATABASE=$1 "$SP_WORK/deliver" "$delivery" "$2" "$3" "$4"
}

sql() {
    psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# took VARIANT COMMAND...
#     Adds the seconds that COMMAND prints to those of VARIANT.
took() {
    local variant=$1
    shift
    "$@" >>"$SP_WORK/seconds/$variant"
}

# sql_took VARIANT DATABASE STATEMENT [ANSWER]
#     The same for a statement, which has to answer with ANSWER.
sql_took() {
    local began answer
    began=$EPOCHREALTIME
    answer=$(sql -d "$2" -c "$3")
    printf '%s %s\n' "$EPOCHREALTIME" "$began" | awk '{ printf "%.6f\n", $1 - $2 }' >>"$SP_WORK/seconds/$1"
    [[ -z ${4:-} || $answer == "$4" ]] || die "$1 answered $answer, not $4"
}

median() {
    sort -n | awk '{ v[NR] = $1 } END { printf "%.6f\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# rate VARIANT COUNT
#     How many per second, where a round has COUNT.
rate() {
    median <"$SP_WORK/seconds/$1" | awk -v n="$2" '{ printf "%.0f\n", n / $1 }'
}

# times VARIANT OTHER
#     How many times as fast VARIANT is as OTHER.
times() {
    paste "$SP_WORK/seconds/$1" "$SP_WORK/seconds/$2" | awk '{ print $2 / $1 }' | median | awk '{ printf "%.2f\n", $1 }'
}

# row NAME FIGURE UNIT [RATIO TO [GOAL]]
#     A line of the table: the ratio is to the row TO, and should be GOAL or more.
row() {
    local met=''
    if [[ -n ${6:-} ]]; then
        met=$(awk -v ratio="$4" -v goal="$6" 'BEGIN { print (ratio >= goal ? "yes" : "no") }')
    fi
    printf '%s | %s | %s | %s | %s | %s\n' "$1" "$2" "$3" "${4:+$4 × $5}" "${6:+≥ $6}" "$met"
}

# own_memory
#     Makes the function own, which tells of the backend that calls it.
own_memory() {
    sql <<'EOF'
-- In MB: what is the backend's own now, and the most that it ever was, as far
-- as what it shares has only grown.
CREATE FUNCTION own(OUT now numeric, OUT peak numeric) LANGUAGE sql VOLATILE AS $$
    WITH status AS (
        SELECT field, substring(value FROM '[0-9]+')::numeric / 1024 AS mb
        FROM regexp_split_to_table(pg_read_file('/proc/self/status'), '\n') AS line,
             LATERAL (SELECT split_part(line, ':', 1), split_part(line, ':', 2)) AS l (field, value)
        WHERE field IN ('VmHWM', 'RssAnon', 'RssFile', 'RssShmem'))
    SELECT round(sum(mb) FILTER (WHERE field = 'RssAnon'), 1),
           round(sum(CASE field WHEN 'VmHWM' THEN mb WHEN 'RssAnon' THEN 0 ELSE -mb END), 1)
    FROM status
$$;
EOF
}

# memory_row NAME STATEMENT...
#     A line of the table: the most that a backend took for itself in which these were run.
memory_row() {
    local name=$1 statement commands=()
    shift
    for statement in "$@"; do
        commands+=(-c "$statement")
    done
    row "memory, $name: peak" "$(sql "${commands[@]}" -c 'SELECT peak FROM own()' | tail -n 1)" MB
}

# row_at_most NAME FIGURE UNIT RATIO TO GOAL
#     A line of the table whose ratio should be GOAL or less.
row_at_most() {
    printf '%s | %s | %s | %s × %s | ≤ %s | %s\n' "$1" "$2" "$3" "$4" "$5" "$6" \
        "$(awk -v ratio="$4" -v goal="$6" 'BEGIN { print (ratio <= goal ? "yes" : "no") }')"
}
