#!/bin/sh
# The template of user-data: what a machine that the master started runs first, as root (cloud), or
# what the `local` provisioner runs as an ordinary user in the directory BB_HOME.
#
# `src/master/user_data.rs` fills it in: a line `NAME=@NAME@` becomes `NAME='value'`, comments and
# empty lines go (user-data has to stay under 4 KiB), and for `local` everything between the two
# `#@machine` lines goes too. That part is the only one that touches a whole machine.
# Only BB_* values stand here, never a pool's env. No `set -x`: BB_PASSWORD is a secret.
BB_ROAD=local
#@machine begin
BB_ROAD=cloud BB_HOME=/var/lib/busybee-agent BB_DEADMAN=/run/busybee-deadman
BB_BOOT_LIMIT=@BB_BOOT_LIMIT@
BB_LIFE_LIMIT=@BB_LIFE_LIMIT@
BB_STEP_METADATA=@BB_STEP_METADATA@
# The dead-man, before anything can fail: it reads from a file until which second of uptime this
# machine may run; whoever keeps the machine alive writes a later one (aside, then renamed). A file
# that is gone or not a number is the end as well. Nothing moves BB_LIFE_LIMIT.
echo $BB_BOOT_LIMIT >$BB_DEADMAN
(
  echo -1000 >/proc/self/oom_score_adj
  while read -r up _ </proc/uptime && read -r end <$BB_DEADMAN &&
    [ "${up%.*}" -lt "$end" ] && [ "${up%.*}" -lt $BB_LIFE_LIMIT ]; do sleep 15; done
  poweroff; sleep 90; poweroff -ff; echo o >/proc/sysrq-trigger
) </dev/null >/dev/null 2>&1 &
umask 077
log=/var/log/user-data.log con=/dev/console
mkdir -p $BB_HOME
echo "user-data of Busybee" >>$log; chmod 600 $log
(: >$con) 2>/dev/null || con=/dev/null
# `tee` through a pipe with a name: a POSIX shell has no other way to send its own output to two places.
rm -f $BB_HOME/log; mkfifo $BB_HOME/log
tee -a $log <$BB_HOME/log >$con 2>/dev/null &
exec >$BB_HOME/log 2>&1; rm $BB_HOME/log
export BB_DEADMAN BB_BOOT_LIMIT BB_LIFE_LIMIT BB_STEP_METADATA
#@machine end
set -eu
umask 077
BB_MASTER=@BB_MASTER@
BB_MASTER_URL=@BB_MASTER_URL@
BB_NAME=@BB_NAME@
BB_PASSWORD=@BB_PASSWORD@
pem=@BB_CA_PEM@
runurl_sha256=@RUNURL_SHA256@
agent_sh_sha256=@AGENT_SH_SHA256@

die() { echo "user-data: $*" >&2; exit 1; }

: "${BB_HOME:?is the directory to work in}"
mkdir -p "$BB_HOME"
BB_CA=
if [ "$pem" ]; then
  BB_CA=$BB_HOME/ca.pem
  printf '%s\n' "$pem" >"$BB_CA"
fi
export BB_ROAD BB_HOME BB_MASTER BB_MASTER_URL BB_NAME BB_PASSWORD BB_CA

# By its hash: the master may be another, later one by now, which has these of its predecessors too.
url="$BB_MASTER_URL/runurl?sha256=$runurl_sha256" out=$BB_HOME/runurl
# Once, with whatever this image has, over verified TLS, from the master itself: no proxy, no redirect.
get() {
  if command -v curl >/dev/null; then
    curl -qfsS --noproxy '*' --proto =https -m 60 ${BB_CA:+--cacert "$BB_CA"} -o "$out" "$url"
  elif case $(wget --version 2>&1) in *"GNU Wget 1"*) ;; *) false ;; esac then
    wget -nv -t 1 -T 20 --no-proxy --max-redirect=0 ${BB_CA:+--ca-certificate="$BB_CA"} -O "$out" "$url"
  elif command -v python3 >/dev/null; then
    python3 -c 'import ssl, sys, urllib.request as u
try:
  c = ssl.create_default_context(cafile=sys.argv[1] or None)
  o = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=c))
  open(sys.argv[2], "wb").write(o.open(sys.argv[3], timeout=20).read())
except Exception as e: sys.exit("python3: %s" % e)' "$BB_CA" "$out" "$url"
  else
    die "needs curl, GNU wget or python3; the wget of busybox is refused, it verifies no certificate"
  fi
}
left=${RUNURL_DEADLINE:-300}
until get; do
  [ "$left" -gt 0 ] || die "cannot fetch $url; the last reason stands above"
  left=$((left - 5))
  sleep 5
done
sum=$({
  sha256sum || busybox sha256sum || openssl dgst -sha256 -r ||
    python3 -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
} <"$out" 2>/dev/null)
[ "${sum%% *}" = "$runurl_sha256" ] || die "$url is not what the master announced: refused"
exec sh "$out" --sha256 "$agent_sh_sha256" "$BB_MASTER_URL/bootstrap/agent.sh?sha256=$agent_sh_sha256"
