#!/bin/sh
# debian.sh [PACKAGE...] [build-dep SOURCE...]: makes a Debian or Ubuntu machine ready to build.
#
# git and ca-certificates always; then the packages, and what the source packages need to be built.
# A pool's bootstrap script gets no arguments: there DEBIAN_PACKAGES and DEBIAN_BUILD_DEP (words
# with spaces between) in the pool's `env` say the same. It may run as often as you like; where
# everything is there already it needs neither root nor a network.
set -eu
exec </dev/null

LOCK_SECONDS=300   # apt waits so long for another dpkg, and we for another `apt-get update`
TRIES=6            # of an update or an installation; mirrors are now and then between two states
APT=${DEBIAN_APT_DIR:-/etc/apt}

say() { printf 'debian.sh: %s\n' "$*"; }
die() { printf 'debian.sh: %s\n' "$*" >&2; exit 1; }

# No question may wait for an answer; needrestart must not restart the agent that runs us.
export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none UCF_FORCE_CONFFOLD=1
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l

apt() {
    apt-get -y -q \
        -o DPkg::Lock::Timeout="$LOCK_SECONDS" \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        -o Acquire::Retries=3 -o APT::Update::Error-Mode=any "$@"
}

# The lists have a lock that Lock::Timeout does not cover, and mirrors fail for a minute: so again.
insist() { # WHAT COMMAND...
    what=$1
    shift
    try=1 pause=${DEBIAN_PAUSE:-5}
    until "$@"; do
        [ "$try" -lt "$TRIES" ] || die "$what failed $TRIES times; apt's own words stand above"
        say "$what failed; trying again in $pause s"
        sleep "$pause"
        try=$((try + 1)) pause=$((pause * 2))
    done
}

installed() { # PACKAGE...
    for package in "$@"; do
        case $(dpkg-query -W -f '${Status}' -- "$package" 2>/dev/null) in
        *' ok installed') ;;
        *) return 1 ;;
        esac
    done
}

# Packages' sources are off on most images. Files of the newer form say `Types: deb`; of the older
# each line `deb …` gets its twin in a file of ours. Writing them twice changes nothing.
enable_sources() {
    for file in "$APT"/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        grep -q '^Types:.*deb-src' "$file" || sed -i 's/^\(Types:[[:space:]]*deb\)[[:space:]]*$/\1 deb-src/' "$file"
    done
    ours=$APT/sources.list.d/busybee-src.list
    rm -f "$ours"
    for file in "$APT"/sources.list "$APT"/sources.list.d/*.list; do
        [ -f "$file" ] || continue
        grep -q '^[[:space:]]*deb-src[[:space:]]' "$file" || sed -n 's/^[[:space:]]*deb[[:space:]]/deb-src /p' "$file"
    done >"$ours.new"
    mv -f "$ours.new" "$ours"
    chmod 644 "$ours"
}

packages='' sources='' list=packages
# shellcheck disable=SC2086 # lists of words
set -- ${DEBIAN_PACKAGES:-} "$@" ${DEBIAN_BUILD_DEP:+build-dep $DEBIAN_BUILD_DEP}
for word in "$@"; do
    case $word in
    build-dep) list=sources ;;
    -* | *[!A-Za-z0-9.+:=~_/-]*) die "\"$word\" is no name of a package" ;;
    *) if [ "$list" = packages ]; then packages="$packages $word"; else sources="$sources $word"; fi ;;
    esac
done
[ "$list" = packages ] || [ -n "$sources" ] || die "build-dep needs the name of a source package"
# shellcheck disable=SC2086
set -- git ca-certificates $packages

command -v apt-get >/dev/null || die "this machine has no apt-get: it is not a Debian or Ubuntu"
if [ -z "$sources" ] && installed "$@"; then
    say "everything is installed already: $*"
    exit 0
fi
[ "$(id -u)" = 0 ] || die "must be root to install: $*${sources:+ build-dep$sources}"

# What an interrupted installation left half done would fail every later one.
dpkg --configure -a --force-confdef --force-confold || say "dpkg --configure -a failed; going on"
[ -z "$sources" ] || enable_sources
insist "apt-get update" apt update

update_and_install() {
    apt install --no-install-recommends -- "$@" && return
    # The lists may name a version that the mirror has replaced since.
    apt update || :
    return 1
}
insist "apt-get install" update_and_install "$@"
# shellcheck disable=SC2086
[ -z "$sources" ] || insist "apt-get build-dep" apt build-dep --no-install-recommends -- $sources
say "ready"
