#!/usr/bin/env bash
#
# deb.sh
#     Builds the Debian package for this Debian's PostgreSQL, installs it, runs
#     the regression suite and the isolation tests on what is then there
#     (debian/tests/installcheck), and looks it over with lintian.
#
# For a machine that can be thrown away, such as test/matrix.sh makes: packages
# are installed, this one too.  At the end "N passed, N failed".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

install_packages build-essential debhelper "postgresql-$PG_MAJOR" postgresql-server-dev-all lintian \
    libcurl4-openssl-dev libssl-dev openssl pkgconf python3

# Neither the build nor a server may be root's.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
copy_checkout "$work/src"
as=(env -u TMPDIR HOME="$work" LANG=C.UTF-8)
root=(sudo)
if ((EUID == 0)); then
    root=()
    chown -R postgres: "$work"
    as=(setpriv --reuid=postgres --regid=postgres --init-groups "${as[@]}" USER=postgres LOGNAME=postgres)
fi
cd "$work/src"

passed=0
failed=0

# check NAME COMMAND...
#     Nothing is checked any more once something has failed.
check() {
    local name=$1
    shift
    ((failed == 0)) || return 0
    if timeout --foreground -k 10 1200 "$@" >"$work/log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        say "ok      deb: $name"
    else
        failed=1
        say "FAILED  deb: $name"
        tail -n 60 "$work/log" | sed 's/^/        /'
    fi
}

# debian/control is that of the Debian to come; this may be another one.
check 'pg_buildext takes up the version of this Debian' "${as[@]}" pg_buildext updatecontrol
check 'the package builds' "${as[@]}" dpkg-buildpackage -us -uc -b
check 'the package installs' "${root[@]}" apt-get -q -y install ../postgresql-*-stripe-portal_*.deb
check 'debian/tests/installcheck passes' "${as[@]}" debian/tests/installcheck
# No upload to Debian, which would close the request for it.
check 'lintian finds nothing' "${as[@]}" lintian --fail-on error,warning \
    --suppress-tags initial-upload-closes-no-bugs ../stripe-portal_*.changes

say "$passed passed, $failed failed"
exit "$failed"
