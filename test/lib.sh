# shellcheck shell=bash
#
# lib.sh
#     What test/all.sh and test/demo.sh share: installing what is missing, a
#     private copy of the checkout to work in, and a private PostgreSQL.
#
# Nothing outside a temporary directory is touched, except that packages are
# installed.  PostgreSQL refuses to run as root, so root hands over to the
# user "postgres", who may not even be able to read the checkout; that is why
# everything happens in a copy.  An ordinary user works in a copy as well, so
# that both take the same way and no build product appears in the checkout.

# The version of PostgreSQL that this Debian has.
if [[ -z ${PG_MAJOR:-} ]]; then
    case $(. /etc/os-release 2>/dev/null && printf '%s' "${VERSION_CODENAME:-}") in
        trixie) PG_MAJOR=17 ;;
        forky | sid) PG_MAJOR=18 ;;
        *) PG_MAJOR=15 ;;
    esac
fi
export PG_MAJOR

# What it takes to build the extension and to run it against the stand-in.
# shellcheck disable=SC2034  # read by the scripts that source this file
RUN_PACKAGES=(gcc libc6-dev make pkg-config
    "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR"
    libcurl4-openssl-dev libssl-dev openssl ca-certificates python3)

# What it takes to run examples/winback_worker.py and somewhere to send to.
# shellcheck disable=SC2034  # read by the scripts that source this file
MAIL_PACKAGES=(python3-psycopg2 python3-aiosmtpd)

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# as_root COMMAND...
as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        command -v sudo >/dev/null || die "need root, or sudo, to install packages: $*"
        sudo "$@"
    fi
}

# install_packages PACKAGE...
#     Installs with apt those that are not there yet.  A machine that has
#     them all needs neither root nor a network.
install_packages() {
    local package missing=() log

    command -v dpkg-query >/dev/null || die "this script installs packages with apt and needs Debian or a relative of it"
    for package in "$@"; do
        if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
            missing+=("$package")
        fi
    done
    if ((${#missing[@]} == 0)); then
        return 0
    fi

    say "installing ${missing[*]}"
    log=$(mktemp)
    # A machine that has just come up may still be busy with its own updates.
    if ! { as_root apt-get -q -o DPkg::Lock::Timeout=300 update &&
           as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
               -o DPkg::Lock::Timeout=300 install "${missing[@]}"; } </dev/null >"$log" 2>&1; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        die "apt could not install ${missing[*]}"
    fi
    rm -f "$log"
}

# copy_checkout TARGET
#     Copies what belongs to the checkout: tracked and new files, not build
#     products.  Without git, everything; "make clean" follows either way.
copy_checkout() {
    local file

    # git refuses a checkout of another user unless told that it is meant.
    if git -c safe.directory="$PWD" rev-parse --git-dir >/dev/null 2>&1; then
        git -c safe.directory="$PWD" ls-files -z -c -o --exclude-standard --deduplicate |
            while IFS= read -r -d '' file; do
                if [[ -e $file ]]; then
                    printf '%s\0' "$file"
                fi
            done |
            tar -c --null --no-recursion -T - -f -
    else
        tar -c --exclude=./.git --exclude=./tmp_check --exclude=node_modules -f - .
    fi | tar -x --no-same-owner -C "$1" -f -
}

# run_in_copy SCRIPT ARGUMENT...
#     Runs SCRIPT of this checkout in a private copy of it, as a user whom
#     PostgreSQL accepts, and exits with its status; inside the copy (SP_WORK
#     is set there) it returns at once.  Afterwards, or when interrupted,
#     servers are stopped and the copy is removed; after a failure the logs
#     are kept.  What the script leaves in SP_WORK/summary comes last of all;
#     if it leaves SP_WORK/keep, it takes care of everything itself.
run_in_copy() {
    local base=${TMPDIR:-/tmp} as=() child='' interrupted='' status=0

    if [[ -n ${SP_WORK:-} ]]; then
        enter_copy
        return 0
    fi

    if ((EUID == 0)); then
        base=/tmp               # root's TMPDIR may be closed to others
    fi
    SP_WORK=$(mktemp -d "$base/stripe_portal.XXXXXX")
    trap 'rm -rf "$SP_WORK"' EXIT
    mkdir "$SP_WORK/src" "$SP_WORK/log"
    copy_checkout "$SP_WORK/src"
    if ((EUID == 0)); then
        chown -R postgres: "$SP_WORK"
        as=(setpriv --reuid=postgres --regid=postgres --init-groups
            env -u TMPDIR HOME="$SP_WORK" USER=postgres LOGNAME=postgres)
    fi

    # A process group of its own, so that Ctrl-C and a plain kill of this
    # process are the same thing: one signal to everything that was started.
    trap 'interrupted=1; [[ -z $child ]] || kill -TERM -- "-$child" 2>/dev/null || true' INT TERM HUP
    set -m
    (cd "$SP_WORK/src" && SP_WORK=$SP_WORK exec "${as[@]}" bash "$@") </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    if [[ -n $interrupted ]]; then
        wait "$child" || true
        status=130
    fi
    kill -TERM -- "-$child" 2>/dev/null || true

    if [[ -e $SP_WORK/keep ]]; then
        trap - EXIT
        exit "$status"
    fi
    stop_servers "$SP_WORK"
    if ((status != 0)) && [[ -z $interrupted && -n $(ls -A "$SP_WORK/log") ]]; then
        say "logs: $SP_WORK/log"
        trap 'find "$SP_WORK" -mindepth 1 -maxdepth 1 ! -name log -exec rm -rf {} +' EXIT
    fi
    if [[ -e $SP_WORK/summary ]]; then
        cat "$SP_WORK/summary"
    fi
    exit "$status"
}

# enter_copy
#     The environment inside the copy: nothing of the caller's connection or
#     locale settings gets through to the tests.
enter_copy() {
    local variable

    for variable in $(compgen -e); do
        case $variable in
            PG_MAJOR) ;;
            PG* | LC_* | LANGUAGE) unset "$variable" ;;
        esac
    done
    export LANG=C
    # "make -s" and the like of a calling make would change the output.
    unset MAKEFLAGS MAKELEVEL MFLAGS
}

# stop_servers DIR
#     Stops every PostgreSQL whose data directory is under DIR.
stop_servers() {
    local file pid pids=()

    while IFS= read -r file; do
        pid=$(head -n 1 "$file")
        # A file left by a crash may name a process of somebody else's.
        if [[ $(readlink "/proc/$pid/cwd") == "$(dirname "$file")" ]]; then
            kill -INT "$pid" && pids+=("$pid")
        fi
    done < <(find "$1" -name postmaster.pid 2>/dev/null)
    for pid in "${pids[@]}"; do
        timeout 20 tail -s 0.1 --pid="$pid" -f /dev/null || kill -QUIT "$pid" || true
    done
}

# private_server DIR
#     Makes DIR a copy of the PostgreSQL installation, into which "make
#     install" can write without being root: PostgreSQL finds all its parts
#     relative to the program that runs.  Sets and exports PG_CONFIG, and puts
#     the programs first in PATH.
private_server() {
    local bin=/usr/lib/postgresql/$PG_MAJOR/bin

    [[ -x $bin/postgres ]] || die "PostgreSQL $PG_MAJOR is not installed"
    mkdir -p "$1/usr/lib/postgresql" "$1/usr/share/postgresql"
    cp -r "/usr/lib/postgresql/$PG_MAJOR" "$1/usr/lib/postgresql/"
    cp -r "/usr/share/postgresql/$PG_MAJOR" "$1/usr/share/postgresql/"
    ln -s /usr/include "$1/usr/include"
    export PG_CONFIG=$1$bin/pg_config PATH=$1$bin:$PATH
    [[ $("$PG_CONFIG" --sharedir) == "$1/usr/share/postgresql/$PG_MAJOR" ]] ||
        die "PostgreSQL $PG_MAJOR cannot be run from a copy"
}

# start_server DIR [OPTION...]
#     Starts a throw-away server with its data in DIR, reachable only through
#     a socket there, and exports how to reach it.  OPTIONs, such as -c
#     fsync=on, are for the server; it does not commit to disk unless told so.
start_server() {
    local dir=$1
    shift
    mkdir -m 700 "$dir" "$dir/socket"
    initdb -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync >"$SP_WORK/log/initdb.log"
    pg_ctl -D "$dir/data" -l "$SP_WORK/log/server.log" -w -s \
        -o "-c listen_addresses='' -c unix_socket_directories='$dir/socket' -c fsync=off $*" start
    export PGHOST=$dir/socket PGUSER=postgres PGDATABASE=postgres
}
