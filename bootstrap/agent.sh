#!/bin/sh
# agent.sh: turns the machine it runs on into a worker. user-data calls it through runurl, which has
# checked it by its SHA-256. It fetches the agent for this architecture by content, starts it, and
#   - on a cloud instance with systemd: leaves a unit behind and ends;
#   - everywhere else: stays in the foreground and starts a crashed agent again.
# Only BB_ROAD=cloud lets it touch the machine; otherwise it keeps to the directory BB_HOME.
set -eu
umask 077

# The master fills this in when it serves the file: the agents it has, as `arch:sha256`.
BB_AGENTS=""

AGENT_HOME=/usr/local/lib/busybee # not /tmp, /run or /var: those may be mounted noexec
BUILDER=builder                   # on a cloud instance, checkouts and steps run as this user
BUILDER_HOME=/var/lib/busybee-builder
LONGEST_PAUSE=30                  # seconds between two starts of an agent that crashes
STEADY_SECONDS=60                 # an agent that lived this long starts again without delay
APT_WAIT_SECONDS=60               # for apt's own timers to let go; debian.sh can wait longer

say() { printf 'agent.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- What we were told

check_environment() {
    newline='
'
    for name in BB_MASTER BB_MASTER_URL BB_NAME BB_PASSWORD BB_HOME; do
        eval "value=\${$name:-}"
        [ -n "$value" ] || die "$name is not set; user-data sets it"
    done
    case "$BB_MASTER$BB_MASTER_URL$BB_NAME$BB_PASSWORD$BB_HOME${BB_CA:-}" in
    *"$newline"*) die "a BB_ value has a line break in it" ;;
    esac
    case $BB_HOME in /*) ;; *) die "BB_HOME must be an absolute path" ;; esac
    mkdir -p "$BB_HOME"
    on_cloud='' with_systemd=''
    if [ "${BB_ROAD:-local}" = cloud ]; then
        [ "$(id -u)" = 0 ] || die "a cloud instance is set up as root"
        on_cloud=yes
        [ ! -d /run/systemd/system ] || with_systemd=yes
    fi
}

# --- The agent's program

choose_agent() {
    machine=$(uname -m)
    case $machine in
    x86_64 | amd64) arch=x86_64 ;;
    aarch64 | arm64) arch=aarch64 ;;
    *) die "there is no agent for a $machine machine" ;;
    esac
    sha256='' offered=''
    for pair in $BB_AGENTS; do
        offered="$offered ${pair%%:*}"
        [ "${pair%%:*}" != "$arch" ] || sha256=${pair#*:}
    done
    [ -n "$sha256" ] ||
        die "the master has no agent for $arch (it has:${offered:- none}); put one into its agent_dir"
}

fetch_agent() {
    [ -r "$BB_HOME/runurl" ] || die "$BB_HOME/runurl is missing; user-data puts it there"
    sh "$BB_HOME/runurl" --sha256 "$sha256" --save "$BB_HOME/agent.new" "$BB_MASTER_URL/agent/$sha256" ||
        die "cannot fetch the agent; the reason stands above"
}

# `install`, never `mv`: a file that was made in another place keeps that place's SELinux label.
put_agent() {
    if [ -n "$on_cloud" ]; then
        mkdir -p "$AGENT_HOME"
        chmod 755 "$AGENT_HOME"
        agent=$AGENT_HOME/busybee-agent
    else
        agent=$BB_HOME/busybee-agent
    fi
    install -m 755 "$BB_HOME/agent.new" "$agent" || die "cannot write $agent"
    rm -f "$BB_HOME/agent.new"
    if [ -n "$on_cloud" ] && command -v restorecon >/dev/null; then
        restorecon "$agent" || :
        # A library's directory: systemd may start programs there only if they are labelled so.
        chcon -t bin_t "$agent" || :
    fi
}

# --- Its settings: in a file of mode 0600, never in arguments or environment. The agent takes the
# --- password out once the master has bound it to the agent's key.

# Uptime begins anew at each boot; the machine's life, which is the time that it runs, does not. The
# dead-man's unit writes there what it ran before, in which boot it is now, and for how long.
LIVED=$AGENT_HOME/lived

write_settings() {
    settings=$BB_HOME/agent.env
    cat >"$settings.new" <<END
BB_MASTER=$BB_MASTER
BB_MASTER_URL=$BB_MASTER_URL
BB_NAME=$BB_NAME
BB_PASSWORD=$BB_PASSWORD
BB_CA=${BB_CA:-}
BB_ROAD=${BB_ROAD:-local}
BB_RUNURL=$BB_HOME/runurl
END
    if [ -n "$on_cloud" ]; then
        echo "BB_USER=$BUILDER" >>"$settings.new"
        [ -z "${BB_LIFE_LIMIT:-}" ] || printf '%s\n' "BB_LIFE_LIMIT=$BB_LIFE_LIMIT" "BB_LIVED=$LIVED" >>"$settings.new"
        echo "BB_STEP_METADATA=${BB_STEP_METADATA:-}" >>"$settings.new"
    fi
    mv -f "$settings.new" "$settings"
    unset BB_PASSWORD
}

# --- A whole machine: cloud instances only

add_builder() {
    if command -v useradd >/dev/null; then
        # A system's user has no range of other ids to become. An image may have a group of that name.
        useradd -r -M -d "$BUILDER_HOME" -s /bin/sh -U "$BUILDER" ||
            useradd -r -M -d "$BUILDER_HOME" -s /bin/sh -g "$BUILDER" "$BUILDER"
    elif command -v adduser >/dev/null; then
        # That of busybox: where there is another one, there is useradd.
        addgroup -S "$BUILDER" || :
        adduser -S -D -H -h "$BUILDER_HOME" -s /bin/sh -G "$BUILDER" "$BUILDER"
    else
        say "there is neither useradd nor adduser"
        false
    fi
}

# Whoever is in one of these groups is root, or nearly. Steps give up all groups but the user's own;
# this is for what others may run in its name.
leave_groups() {
    own=$(id -gn "$BUILDER")
    for group in $(id -Gn "$BUILDER"); do
        [ "$group" != "$own" ] || continue
        say "taking the user $BUILDER out of the group $group"
        gpasswd -d "$BUILDER" "$group" >/dev/null 2>&1 || deluser "$BUILDER" "$group" >/dev/null ||
            die "the user $BUILDER is in the group $group; steps would have its rights"
    done
    case $own in
    root | sudo | wheel | adm | admin | docker | lxd | disk | shadow)
        die "the own group of the user $BUILDER is $own; steps would have its rights"
        ;;
    esac
}

# The agent makes the home if it is missing, and keeps the user from the metadata service.
provide_builder() {
    if ! id -u "$BUILDER" >/dev/null 2>&1; then
        say "making the user $BUILDER for checkouts and steps"
        add_builder || die "cannot make the user $BUILDER; the reason stands above"
    fi
    [ "$(id -u "$BUILDER")" != 0 ] || die "the user $BUILDER is root under another name"
    leave_groups
    # The password in there is used up soon; until then it is root's alone, whatever the image thinks.
    for file in /var/log/user-data.log /var/log/cloud-init-output.log /var/lib/cloud/instance/scripts \
        /var/lib/cloud/instance/user-data.txt /var/lib/cloud/instance/user-data.txt.i; do
        [ ! -e "$file" ] || chmod go-rwx "$file" || say "cannot close $file to others"
    done
}

# apt's own timers fire just when a young instance installs what its builds need.
quiet_apt() {
    timers="apt-daily.timer apt-daily-upgrade.timer"
    services="apt-daily.service apt-daily-upgrade.service unattended-upgrades.service"
    systemctl cat apt-daily.timer >/dev/null 2>&1 || return 0
    say "stopping apt's own timers"
    # shellcheck disable=SC2086 # lists of words
    {
        systemctl mask $timers $services || :
        systemctl stop $timers || :
        # Not killed in the middle of an installation: it ends in its own time.
        systemctl stop --no-block $services || :
    } >/dev/null 2>&1
    waited=0
    # shellcheck disable=SC2086
    while systemctl show -p ActiveState $services | grep -q '=\(activating\|deactivating\|active\)$'; do
        [ "$waited" -gt 0 ] || say "apt is at work; waiting for it"
        [ "$waited" -lt "$APT_WAIT_SECONDS" ] || { say "apt is still at work; going on"; break; }
        sleep 1
        waited=$((waited + 1))
    done
}

settle_machine() {
    # A kernel that panics and hangs would be paid for without end. The dead-man says so again at each boot.
    { echo 10 >/proc/sys/kernel/panic; } 2>/dev/null || :
    # It may be installed later, too.
    if [ -d /etc/needrestart ] || command -v dpkg >/dev/null; then
        mkdir -p /etc/needrestart/conf.d
        # Or installing a library restarts the agent in the middle of its bootstrap.
        echo "\$nrconf{override_rc}{qr(^busybee-)} = 0;" >/etc/needrestart/conf.d/busybee.conf
        chmod 644 /etc/needrestart/conf.d/busybee.conf
    fi
}

# User-data runs at the first boot only; after a reboot, or a stop and start, this is the timer.
write_deadman() {
    cat >"$AGENT_HOME/deadman" <<END
#!/bin/sh
# Powers this machine off when the second of uptime that stands in the file has come, or its life is over.
{ echo 10 >/proc/sys/kernel/panic; } 2>/dev/null || :
[ -f $BB_DEADMAN ] || echo $BB_BOOT_LIMIT >$BB_DEADMAN
before=0 boot='' ran=0
[ ! -s $LIVED ] || read -r before boot ran <$LIVED || :
read -r now </proc/sys/kernel/random/boot_id
[ "\$boot" = "\$now" ] || before=\$((before + ran))
while read -r up _ </proc/uptime && read -r end <$BB_DEADMAN && up=\${up%.*} &&
    [ "\$up" -lt "\$end" ] && [ \$((before + up)) -lt $BB_LIFE_LIMIT ]; do
    # A full disk is no reason to end.
    { echo "\$before \$now \$up" >$LIVED.new && mv -f $LIVED.new $LIVED; } 2>/dev/null || :
    sleep 15
done
poweroff; sleep 90; poweroff -ff; echo o >/proc/sysrq-trigger
END
    cat >/etc/systemd/system/busybee-deadman.service <<END
[Unit]
Description=Busybee: end this machine when nobody keeps it alive

[Service]
ExecStart=/bin/sh $AGENT_HOME/deadman
Restart=always
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
END
}

write_unit() {
    cat >/etc/systemd/system/busybee-agent.service <<END
[Unit]
Description=Busybee agent
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=$agent run --config $settings
Environment=BB_HOME=$BB_HOME BB_DEADMAN=${BB_DEADMAN:-}
WorkingDirectory=$BB_HOME
UMask=0022
Restart=always
RestartSec=5
# 0: told to end. 3: refused for good. Neither is cured by another start.
RestartPreventExitStatus=0 3
# A running step belongs to its supervisor and outlives the agent.
KillMode=process
Delegate=yes
OOMPolicy=continue
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
END
}

hand_to_systemd() {
    write_unit
    units=busybee-agent.service
    if [ -n "${BB_DEADMAN:-}" ] && [ -n "${BB_BOOT_LIMIT:-}" ] && [ -n "${BB_LIFE_LIMIT:-}" ]; then
        write_deadman
        units="$units busybee-deadman.service"
    fi
    systemctl daemon-reload
    # Not waited for: user-data runs inside a unit that others are ordered after.
    # shellcheck disable=SC2086
    { systemctl enable $units && systemctl start --no-block $units; } || die "systemd does not start $units"
    say "systemd runs the agent now"
}

# --- In the foreground: no systemd, or not our machine

agent_pid='' pause_pid='' ending='' going=$BB_HOME/agent.going

# For `sh -c`, with that file and a command: becomes the command, unless it was told to end before it
# could hear so. Between fork and exec it has our traps still, and a signal that comes then is lost.
# shellcheck disable=SC2016 # no expansion is wanted
BEGIN='[ -s "$0" ] || exit 143; exec "$@"'

# shellcheck disable=SC2317 # called by traps
on_signal() { # STATUS
    ending=$1
    { true >"$going"; } 2>/dev/null || :
    [ -z "$agent_pid" ] || kill -TERM "$agent_pid" 2>/dev/null || :
    [ -z "$pause_pid" ] || kill "$pause_pid" 2>/dev/null || :
}

seconds() {
    read -r up _ </proc/uptime
    printf '%s\n' "${up%%.*}"
}

# Starts the agent and waits for its real end, also when a signal interrupts the waiting.
run_agent() {
    (
        [ -z "$on_cloud" ] || echo -1000 >/proc/self/oom_score_adj || :
        umask 022
        exec sh -c "$BEGIN" "$going" "$agent" run --config "$settings"
    ) </dev/null &
    agent_pid=$! ended=127
    [ -z "$ending" ] || kill "$agent_pid" 2>/dev/null || :
    while :; do
        before=$ending
        wait "$agent_pid" && now=0 || now=$?
        { [ "$now" = 127 ] && [ "$ended" != 127 ]; } || ended=$now
        [ "$before" != "$ending" ] || break
    done
    agent_pid=''
}

keep_running() {
    echo go >"$going" || die "cannot write in $BB_HOME"
    trap 'on_signal 129' HUP
    trap 'on_signal 130' INT
    trap 'on_signal 143' TERM
    pause=1
    while [ -z "$ending" ]; do
        began=$(seconds)
        run_agent
        case $ended in
        0) say "the agent was told to end"; exit 0 ;;
        3) say "the master has refused this worker for good"; exit 3 ;;
        126 | 127) die "cannot execute $agent (a file system mounted noexec, or another libc?)" ;;
        esac
        [ -z "$ending" ] || break
        [ $(($(seconds) - began)) -lt "$STEADY_SECONDS" ] || pause=1
        say "the agent ended with status $ended; starting it again in $pause s"
        sleep "$pause" &
        pause_pid=$!
        [ -z "$ending" ] || kill "$pause_pid" 2>/dev/null || :
        wait "$pause_pid" || :
        pause_pid=''
        pause=$((pause * 2))
        [ "$pause" -le "$LONGEST_PAUSE" ] || pause=$LONGEST_PAUSE
    done
    exit "$ending"
}

check_environment
choose_agent
fetch_agent
put_agent
write_settings
cd "$BB_HOME"
[ -z "$on_cloud" ] || { settle_machine; provide_builder; }
if [ -n "$with_systemd" ]; then
    quiet_apt
    hand_to_systemd
else
    say "starting the agent of worker $BB_NAME"
    keep_running
fi
