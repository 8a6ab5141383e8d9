# shellcheck shell=sh disable=SC2034 # what is set here is used where this is read
# What `proxy-run` and `proxy-switch` share: where things are, which proxy is chosen, who listens on a port. POSIX sh.
#
# Every place is a variable whose default is HinD's; tests and other images set their own.
#
# The choice: the first line of /pv/rust-lb/<hostname>/proxy-server, else PROXY_SERVER, else caddy. /pv may be a network
# file system that hangs: it is read with a time limit, and a copy on local disk counts while it cannot be reached. What could
# not be written there counts from the local copy until it can.

: "${PROXY_CONTAINER_ENVIRONMENT:=/run/s6/container_environment}"   # of s6-overlay
if [ -z "${PROXY_SERVER:-}" ]; then
    PROXY_SERVER=$(cat "$PROXY_CONTAINER_ENVIRONMENT/PROXY_SERVER" 2>/dev/null) || PROXY_SERVER=''
    : "${PROXY_SERVER:=caddy}"
fi
: "${PROXY_HOST:=$(uname -n)}"
: "${PROXY_DIR:=/pv/rust-lb/$PROXY_HOST}"           # survives a new container; one per host, as all share /pv
: "${PROXY_LOCAL:=/var/lib/rust-lb}"                # survives a restart of the container
: "${PROXY_RUN_DIR:=/run/rust-lb}"                  # of this boot: lock, state of a switch, the standby's socket
: "${PROXY_CERTS:=/pv/CERTS}"
: "${PROXY_RUST_LB:=/usr/local/bin/rust-lb}"
: "${PROXY_RUST_LB_ARGS:=}"                         # more flags of `rust-lb serve`, split at spaces
: "${PROXY_RUST_LB_ADMIN:=127.0.0.1:8080}"
: "${PROXY_CADDY:=/usr/bin/caddy}"
: "${PROXY_CADDYFILE:=/etc/Caddyfile}"
: "${PROXY_CADDY_ADMIN:=127.0.0.1:2019}"
: "${PROXY_CONSUL_TEMPLATE:=/usr/bin/consul-template}"
: "${PROXY_CADDYFILE_TEMPLATE:=/etc/Caddyfile.ctmpl}"
: "${PROXY_KEEP_CADDYFILE:=1}"                      # 0: no consul-template while another proxy than Caddy is chosen
: "${PROXY_TRAEFIK:=/usr/local/bin/traefik}"
: "${PROXY_TRAEFIK_CONFIG:=/etc/traefik/traefik.yaml}" # in YAML
: "${PROXY_TRAEFIK_ADMIN:=127.0.0.1:8080}"          # its API, with `api.insecure`
: "${PROXY_ADDRESS:=127.0.0.1}"                     # where the public ports are asked
: "${PROXY_HTTP_PORT:=80}"
: "${PROXY_HTTPS_PORT:=443}"
: "${PROXY_NOFILE:=1048576}"                        # file descriptors that a proxy may have
: "${PROXY_SUPERVISORCTL:=supervisorctl}"
: "${PROXY_SUPERVISOR_SOCKET:=/var/run/supervisor.sock}"
: "${PROXY_SCANDIR:=/run/service}"                  # of s6, where that is the supervisor

PROXY_FILE=$PROXY_DIR/proxy-server
PROXY_COPY=$PROXY_LOCAL/proxy-server
PROXY_PREVIOUS=$PROXY_LOCAL/proxy-previous
PROXY_SWITCH=$PROXY_RUN_DIR/switch
# The three programs of the slot, and those that exist for Caddy alone.
PROXIES='caddy traefik rust-lb'

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# What the first line of a file that may lie on a network file system says, without blanks and what cannot be printed. 1: there is
# none; 124: it is not reached; else: it cannot be read.
first_line() {
    # shellcheck disable=SC2016 # the inner shell's
    timeout 2 sh -c 'test -e "$1" || exit 1; test -f "$1" && exec <"$1" || exit 3
        head -c 200 | head -n 1 | LC_ALL=C tr -cd "[:graph:]" | cut -c 1-40' sh "$1" 2>/dev/null
}

is_proxy() {
    case $1 in caddy | traefik | rust-lb) return 0 ;; *) return 1 ;; esac
}

# Sets `chosen`, `because` and `unsaved`; what is wrong with a file or variable goes to standard error.
choose() {
    chosen='' because='' copied='' unsaved=''
    if [ -r "$PROXY_COPY" ]; then
        copied=$(cat "$PROXY_COPY" 2>/dev/null) || copied=''
    fi
    case $copied in
        *' unsaved')
            copied=${copied% unsaved} unsaved=1
            if is_proxy "$copied"; then
                chosen=$copied because="$PROXY_COPY ($PROXY_FILE could not be written)"
                return 0
            fi
            ;;
    esac
    line=$(first_line "$PROXY_FILE")
    status=$?
    if is_proxy "$line"; then
        chosen=$line because=$PROXY_FILE
        return 0
    fi
    case $status in
        0) say "$PROXY_FILE says \`$line\`, which is none of: $PROXIES; it is passed over" ;;
        1) timeout 2 test -d "$PROXY_DIR" || status=124 ;;
        124) ;;
        *) say "$PROXY_FILE cannot be read" ;;
    esac
    if [ "$status" -gt 1 ] && is_proxy "$copied"; then
        chosen=$copied because="$PROXY_COPY ($PROXY_FILE cannot be read)"
        return 0
    fi
    if is_proxy "$PROXY_SERVER"; then
        chosen=$PROXY_SERVER because='PROXY_SERVER, or its default'
    else
        say "PROXY_SERVER is \`$PROXY_SERVER\`, which is none of: $PROXIES; taking caddy"
        chosen=caddy because='the default'
    fi
}

# Writes $2 into the file $1, whole or not at all; with a time limit.
write_file() {
    # shellcheck disable=SC2016 # the inner shell's
    timeout 5 sh -c 'umask 022
        mkdir -p "${1%/*}" && printf "%s\n" "$2" >"$1.new.$$" && mv -f "$1.new.$$" "$1" || { rm -f "$1.new.$$"; exit 1; }' \
        sh "$1" "$2" 2>/dev/null
}

# Whether `write_choice` would succeed, as far as that can be known.
can_choose() {
    for place in "$PROXY_FILE" "$PROXY_COPY"; do
        if write_file "$place.trial" trial; then
            rm -f "$place.trial"
            return 0
        fi
    done
    say "neither $PROXY_FILE nor $PROXY_COPY can be written: the choice would be lost at the next start"
    return 1
}

# Makes $1 the choice.
write_choice() {
    if write_file "$PROXY_FILE" "$1"; then
        write_file "$PROXY_COPY" "$1" || true
        return 0
    fi
    write_file "$PROXY_COPY" "$1 unsaved" || return 1
    say "$PROXY_FILE cannot be written: the choice is kept in $PROXY_COPY, which a new container does not have; when it can, run this again"
}

# Whether a proxy can be started; says why not.
usable() {
    case $1 in
        caddy) binary=$PROXY_CADDY ;;
        traefik) binary=$PROXY_TRAEFIK ;;
        *) binary=$PROXY_RUST_LB ;;
    esac
    if [ ! -f "$binary" ]; then
        say "$1: there is no $binary"
        return 1
    elif [ ! -x "$binary" ]; then
        say "$1: $binary is not executable"
        return 1
    fi
    case $1 in
        rust-lb)
            # shellcheck disable=SC2086 # split at spaces
            if ! problems=$(timeout 10 "$PROXY_RUST_LB" check $PROXY_RUST_LB_ARGS 2>&1); then
                say "rust-lb: its configuration does not hold:"
                printf '%s\n' "$problems" >&2
                return 1
            fi
            ;;
        traefik)
            if [ ! -r "$PROXY_TRAEFIK_CONFIG" ]; then
                say "traefik: $PROXY_TRAEFIK_CONFIG cannot be read"
                return 1
            fi
            ;;
    esac
}

# The choice as far as it can be had: where the chosen proxy cannot be started, Caddy stands in. Sets `effective`.
settle() {
    choose
    effective=$chosen
    if [ "$chosen" != caddy ] && ! usable "$chosen"; then
        say "$chosen is chosen ($because) and cannot be started: caddy stands in"
        effective=caddy
    fi
}

# Reads the state of a switch that is under way, or was: `from`, `to`, `phase`, `switcher`.
read_switch() {
    from='' to='' phase='' switcher=''
    [ -r "$PROXY_SWITCH" ] && read -r from to phase switcher <"$PROXY_SWITCH" && [ -n "$switcher" ]
}

# Whether the process that is switching lives.
switching() {
    read_switch && kill -0 "$switcher" 2>/dev/null &&
        tr '\0' ' ' <"/proc/$switcher/cmdline" 2>/dev/null | grep -q 'proxy-switch'
}

# The inodes of the sockets that listen on a TCP port.
listening_inodes() {
    port=$(printf '%04X' "$1")
    # Who listens stands first: behind may be tens of thousands of connections that have ended.
    for table in /proc/net/tcp /proc/net/tcp6; do
        awk -v port=":$port\$" 'NR > 1 && $4 != "0A" { exit } $2 ~ port { print $10 }' "$table" 2>/dev/null
    done
}

# A process and its descendants.
family() {
    printf '%s\n' "$1"
    # shellcheck disable=SC2013 # words are what is wanted
    for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
        family "$child"
    done
}

# Whether process $1, or one that it started, listens on port $2.
listens() {
    inodes=$(listening_inodes "$2")
    [ -n "$inodes" ] || return 1
    for process in $(family "$1"); do
        for inode in $inodes; do
            if find "/proc/$process/fd" -lname "socket:\[$inode\]" 2>/dev/null | grep -q .; then
                return 0
            fi
        done
    done
    return 1
}

# Who listens on port $1 and is no program of the slot.
strangers() {
    ours=''
    for name in $PROXIES; do
        pid=$(program_pid "$name") || continue
        ours="$ours $(family "$pid" | tr '\n' ' ')"
    done
    for inode in $(listening_inodes "$1"); do
        owner='a process that cannot be seen'
        # shellcheck disable=SC2044 # no blanks in there
        for fd in $(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" 2>/dev/null); do
            pid=${fd#/proc/}
            pid=${pid%%/*}
            case " $ours " in *" $pid "*) continue 2 ;; esac
            owner="$(cat "/proc/$pid/comm" 2>/dev/null) (pid $pid)"
        done
        printf '%s\n' "$owner"
    done | sort -u
}

now_ms() {
    # Busybox has no nanoseconds: whole seconds then.
    stamp=$(date +%s%3N)
    case $stamp in *[!0-9]*) stamp=$(date +%s)000 ;; esac
    printf '%s\n' "$stamp"
}

# Tries $2… for $1 seconds.
within() {
    until=$(($(now_ms) + $1 * 1000))
    shift
    while ! "$@"; do
        [ "$(now_ms)" -lt "$until" ] || return 1
        sleep 0.05
    done
}

# Under which supervisor this runs.
under_s6() {
    [ -p "$PROXY_SCANDIR/rust-lb/supervise/control" ] || [ -d "$PROXY_SCANDIR/.s6-svscan" ]
}

# Asks supervisord itself: in a hundredth of the time that `supervisorctl` needs to start. No answer where its socket is
# elsewhere or wants a password.
rpc() {
    method=$1 parameters=''
    shift
    for parameter in "$@"; do
        parameters="$parameters<param><value>$parameter</value></param>"
    done
    [ -S "$PROXY_SUPERVISOR_SOCKET" ] &&
        curl -q -s -f --max-time 70 --unix-socket "$PROXY_SUPERVISOR_SOCKET" -H 'Content-Type: text/xml' -d \
            "<methodCall><methodName>supervisor.$method</methodName><params>$parameters</params></methodCall>" \
            http://localhost/RPC2 2>/dev/null | tr -d '\n'
}

# Whether there is somebody who starts and stops programs; says so where there is not.
supervised() {
    under_s6 && return 0
    # shellcheck disable=SC2086 # a command with its flags
    rpc getState | grep -q statename || $PROXY_SUPERVISORCTL pid >/dev/null 2>&1 </dev/null && return 0
    say "supervisord does not answer at $PROXY_SUPERVISOR_SOCKET: is it running, and are you its user?"
    return 1
}

# Whether consul-template is to run where `effective` serves: it keeps the file that Caddy would be started with.
keeps_caddyfile() {
    [ "$effective" = caddy ] || [ "$PROXY_KEEP_CADDYFILE" != 0 ]
}

# The pid of a program of the supervisor's, if it runs.
program_pid() {
    if under_s6; then
        pid=$(s6-svstat -o pid "$PROXY_SCANDIR/$1" 2>/dev/null) || return 1
    else
        answer=$(rpc getProcessInfo "<string>$1</string>")
        case $answer in
            *'<name>pid</name>'*) pid=$(printf '%s\n' "$answer" | sed 's/.*<name>pid<\/name><value><int>\([0-9]*\)<.*/\1/') ;;
            *faultCode*) return 1 ;;
            *)
                # shellcheck disable=SC2086 # a command with its flags
                pid=$($PROXY_SUPERVISORCTL pid "$1" 2>/dev/null </dev/null) || return 1
                ;;
        esac
    fi
    case $pid in '' | 0 | *[!0-9]*) return 1 ;; esac
    printf '%s\n' "$pid"
}

# Does not wait until it is up, where that can be had.
start_program() {
    if under_s6; then
        s6-svc -u "$PROXY_SCANDIR/$1"
    else
        answer=$(rpc startProcess "<string>$1</string>" '<boolean>0</boolean>')
        case $answer in *'<boolean>1</boolean>'*) return 0 ;; esac
        # shellcheck disable=SC2086 # it also says why not
        $PROXY_SUPERVISORCTL start "$1" </dev/null
    fi
}

# Returns when it has ended.
stop_program() {
    if under_s6; then
        s6-svc -wd -d "$PROXY_SCANDIR/$1"
    else
        answer=$(rpc stopProcess "<string>$1</string>")
        case $answer in *'<boolean>1</boolean>'*) return 0 ;; esac
        # shellcheck disable=SC2086 # it also says why not
        $PROXY_SUPERVISORCTL stop "$1" </dev/null
    fi
}
