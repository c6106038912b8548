#!/bin/sh
# fedora.sh [PACKAGE...] [build-dep SOURCE...]: makes a Fedora, RHEL-like or Amazon Linux machine ready.
#
# git and ca-certificates always; then the packages, and what the source packages need to be built. A
# pool's bootstrap script gets no arguments: there FEDORA_PACKAGES and FEDORA_BUILD_DEP (words with
# spaces between) in the pool's `env` say the same. It may run as often as you like.
set -eu
exec </dev/null

LOCK_SECONDS=300 # dnf waits for its lock without a word and without an end; we say so, and end
TRIES=4          # of an installation; mirrors are now and then between two states

say() { printf 'fedora.sh: %s\n' "$*"; }
die() { printf 'fedora.sh: %s\n' "$*" >&2; exit 1; }

if command -v dnf >/dev/null; then tool=dnf
elif command -v yum >/dev/null; then tool=yum
else die "this machine has neither dnf nor yum"; fi

wait_for_lock() {
    waited=0
    while pgrep -x 'dnf|yum|dnf5|packagekitd' >/dev/null 2>&1; do
        [ "$waited" -gt 0 ] || say "another program installs packages; waiting for it"
        [ "$waited" -lt "$LOCK_SECONDS" ] || die "it did not end within $LOCK_SECONDS s"
        sleep 5
        waited=$((waited + 5))
    done
}

insist() { # WHAT COMMAND...
    what=$1
    shift
    try=1 pause=5
    wait_for_lock
    until "$@"; do
        [ "$try" -lt "$TRIES" ] || die "$what failed $TRIES times; $tool's own words stand above"
        say "$what failed; trying again in $pause s"
        sleep "$pause"
        try=$((try + 1)) pause=$((pause * 2))
        wait_for_lock
    done
}

packages="git-core ca-certificates ${FEDORA_PACKAGES:-}" sources=${FEDORA_BUILD_DEP:-}
list=packages
for word in "$@"; do
    case $word in
    build-dep) list=sources ;;
    -*) die "$word is not a package" ;;
    *)
        if [ "$list" = packages ]; then packages="$packages $word"; else sources="$sources $word"; fi
        ;;
    esac
done

missing=''
for package in $packages; do
    rpm -q "$package" >/dev/null 2>&1 || missing="$missing $package"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || die "needs root to install$missing"
    # shellcheck disable=SC2086 # a list of words
    insist "installing$missing" "$tool" -y install $missing
fi
if [ -n "$sources" ]; then
    [ "$(id -u)" = 0 ] || die "needs root to install what $sources need"
    if [ "$tool" = dnf ]; then
        dnf builddep --help >/dev/null 2>&1 || insist "installing builddep" dnf -y install dnf-plugins-core
        # shellcheck disable=SC2086
        insist "installing what $sources need" dnf -y builddep $sources
    else
        insist "installing yum-utils" yum -y install yum-utils
        # shellcheck disable=SC2086
        insist "installing what $sources need" yum-builddep -y $sources
    fi
fi
say "ready"
