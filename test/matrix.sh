#!/usr/bin/env bash
#
# matrix.sh
#     On every Debian release that has a PostgreSQL which the extension supports:
#     test/all.sh with what gcc makes, its tests of the library with what clang
#     makes, and test/deb.sh.
#
# Usage: test/matrix.sh [--keep] [RELEASE...]
#     RELEASE  bookworm (PostgreSQL 15), trixie (17) or forky (18); all three by
#              default.  No release of Debian has PostgreSQL 16.
#     --keep   leave the releases where they are, for the next run to use again
#
# Each release is installed by debootstrap into a folder of its own, under
# TMPDIR or /var/tmp, and takes about 3 GB there; packages come from where this
# machine's apt has its own.  Nothing else of this machine is changed.  At the
# end there is one line for each of the three on each release.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. test/lib.sh

keep=
releases=()
for argument in "$@"; do
    case $argument in
        --keep) keep=1 ;;
        bookworm | trixie | forky) releases+=("$argument") ;;
        *) die 'usage: test/matrix.sh [--keep] [bookworm] [trixie] [forky]' ;;
    esac
done
((${#releases[@]})) || releases=(bookworm trixie forky)

# The proxies of this machine are needed on both sides of sudo and of chroot.
proxies=(http_proxy https_proxy no_proxy)
if ((EUID != 0)); then
    exec sudo --preserve-env="$(IFS=, && echo "TMPDIR,${proxies[*]}")" bash test/matrix.sh "$@"
fi
install_packages debootstrap ca-certificates

base=${TMPDIR:-/var/tmp}/stripe_portal.matrix
mkdir -p "$base"
[[ -O $base ]] || die "$base belongs to somebody else"
child=

# Whatever is mounted for a release is mounted in a namespace that ends with
# its processes, so that there is nothing of this machine in its folder when
# that is removed.
trap '[[ -z $child ]] || kill -KILL "$child" || true
    [[ -n $keep ]] || rm -rf --one-file-system "$base"' EXIT
trap 'exit 130' INT TERM HUP

# apart COMMAND...
#     Runs a command with mounts and processes of its own; interrupting this
#     script ends all of them.
apart() {
    local status=0
    set -m                      # without it, the command would ignore SIGINT
    unshare --mount --propagation private --pid --fork --kill-child "$@" </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    child=
    return "$status"
}

# mirror LABEL
#     Where apt takes "Debian" or "Debian-Security" from.
mirror() {
    local uri
    # shellcheck disable=SC2016  # for apt to expand
    uri=$(apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        sed -n "s,^Debian/$1 ,,p" | head -n 1)
    # Debian's cloud images name a file with mirrors.
    if [[ $uri == mirror+file:* ]]; then
        uri=$(grep -m 1 -o '^[a-z]*://[^[:space:]]*' "${uri#mirror+file:}")
    fi
    printf '%s\n' "$uri"
}

# install_release RELEASE
#     A Debian with nothing in it, and what this machine has settled about
#     reaching others: name servers, proxies, certificates, apt's mirrors.
install_release() {
    local root=$base/$1 debian security script=sid

    debian=$(mirror Debian)
    security=$(mirror Debian-Security)
    [[ -n $debian ]] || die 'apt of this machine knows no mirror of Debian (try apt-get update)'
    if [[ ! -d $root ]]; then
        say "installing Debian $1 into $root"
        rm -rf --one-file-system "$root.new"
        if [[ -e /usr/share/debootstrap/scripts/$1 ]]; then
            script=$1
        fi
        apart debootstrap --variant=minbase --include=ca-certificates "$1" "$root.new" "$debian" "$script" \
            >"$base/$1.log" 2>&1 || die "debootstrap fails: $(tail -n 5 "$base/$1.log")"
        mv "$root.new" "$root"
    fi

    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    cp -RL /usr/local/share/ca-certificates "$root/usr/local/share/"
    chroot "$root" update-ca-certificates >>"$base/$1.log" 2>&1
    apt-config dump | grep -E '^Acquire::(http|https|Check-[A-Za-z-]*)(::| ")' >"$root/etc/apt/apt.conf.d/99machine" || true
    printf 'deb %s %s main\n' "$debian" "$1" ${security:+"$security" "$1-security"} >"$root/etc/apt/sources.list"
    # A package that is installed there must start nothing.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    # one that was kept can have been interrupted within an installation
    chroot "$root" dpkg --configure -a >>"$base/$1.log" 2>&1

    rm -rf "$root/src"
    mkdir "$root/src"
    copy_checkout "$root/src"
}

# enter RELEASE COMMAND...
#     Runs a command as root in an installed release; KEY=VALUE before it is environment.
enter() {
    local root=$base/$1 settings=(LANG=C.UTF-8 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin) variable
    shift
    # Node has certificates of its own, to which those of this machine are added.
    settings+=(NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt)
    for variable in "${proxies[@]}"; do
        [[ -z ${!variable:-} ]] || settings+=("$variable=${!variable}")
    done
    # shellcheck disable=SC2016  # for the inner shell to expand
    apart bash -ec '
        mount -t proc proc "$0/proc"
        mount --rbind /sys "$0/sys"
        mount --rbind /dev "$0/dev"
        exec chroot "$0" "$@"' "$root" env -i "${settings[@]}" "$@"
}

# run RELEASE NAME COMMAND...
#     Runs a test script in a release, which makes one line of the summary.
run() {
    local release=$1 name=$2 log=$base/$1-$2.log status=0 began=$SECONDS out tee version
    shift 2
    say "== $release, $name"
    exec {out}> >(tee "$log")
    tee=$!
    enter "$release" "$@" >&"$out" 2>&1 || status=$?
    exec {out}>&-
    wait "$tee"
    # shellcheck disable=SC2016  # for dpkg-query to expand
    version=$(chroot "$base/$release" dpkg-query -W -f '${Version} ' 'postgresql-[1-9][0-9]' 2>/dev/null || true)
    summary+=("$(printf '%-9s %-20s %-6s %-24s %3d min' "$release" "${version:-no PostgreSQL}" "$name" \
        "$(grep -x '[0-9]* passed, [0-9]* failed' "$log" || echo "exit status $status")" $(((SECONDS - began) / 60)))")
    ((status == 0)) || failed=1
}

summary=()
failed=0
for release in "${releases[@]}"; do
    install_release "$release"
    run "$release" gcc CC=gcc bash /src/test/all.sh
    run "$release" clang CC=clang bash /src/test/all.sh regress isolation tap
    run "$release" deb bash /src/test/deb.sh
    if [[ -z $keep ]]; then
        rm -rf --one-file-system "${base:?}/$release"
    fi
done

printf '%s\n' '' "${summary[@]}"
exit "$failed"
