# shellcheck shell=sh disable=SC2154,SC2034 # set by proxy-switch, or read there
# Trials of a target, and asking proxies what they serve and how they answer, for `proxy-switch`. It reads $work (a folder for
# files), $target, $running and $sample; all else is passed. A trial serves nobody: Caddy's is on Unix sockets, Traefik's on
# ports of its own; both order no certificates.
#
# Lists are lines of `host path`; answers lines of `URL status -location trusted`.

# Asks the URLs of the file $2 at the proxy that $1 says, one line each: `URL status location trusted`. `trusted` is 0 where this
# machine trusts the certificate.
ask() {
    case $1 in
        trial)
            # A socket a port.
            grep '^https:' "$2" | ask_at "unix-socket = \"$work/secure.sock\""
            grep '^http:' "$2" | ask_at "unix-socket = \"$work/plain.sock\""
            ;;
        standby) ask_at "unix-socket = \"$STANDBY\"" <"$2" ;;
        ports) ask_at "connect-to = \"::$PROXY_ADDRESS:\"" <"$2" ;;
        trial-ports)
            grep '^https:' "$2" | ask_at "connect-to = \"::127.0.0.1:$trial_https\""
            grep '^http:' "$2" | ask_at "connect-to = \"::127.0.0.1:$trial_http\""
            ;;
    esac
}

# One process for all: a thousand hosts are a second. Several at a time: one whose server is away may be answered only after seconds.
ask_at() {
    {
        printf '%s\n' "$1" 'silent' 'insecure' 'max-time = 10' 'parallel' 'http1.1' 'user-agent = "proxy-switch"' \
            'write-out = "%{url_effective} %{http_code} -%{redirect_url} %{ssl_verify_result}\n"'
        while read -r url; do
            printf 'url = "%s"\noutput = "/dev/null"\n' "$url"
        done
    } >"$work/curl"
    grep -q '^url' "$work/curl" || return 0
    curl -q -K "$work/curl" 2>/dev/null
}

# URLs without a default port.
public_url() {
    case $1:$PROXY_HTTPS_PORT in
        *:443) printf 'https://%s%s\n' "$1" "$2" ;;
        *) printf 'https://%s:%s%s\n' "$1" "$PROXY_HTTPS_PORT" "$2" ;;
    esac
}

plain_url() {
    case $PROXY_HTTP_PORT in
        80) printf 'http://%s/\n' "$1" ;;
        *) printf 'http://%s:%s/\n' "$1" "$PROXY_HTTP_PORT" ;;
    esac
}

# `host path` of what Caddy's configuration (JSON, standard input) serves.
caddy_hosts() {
    tr -d '\n\t' | sed 's/": */":/g; s/, *"/,"/g; s/\[ */[/g; s/ *\]/]/g; s/{ */{/g' |
        grep -o '"match":\[{"host":\[[^]]*\]\(,"path":\["[^"]*"\)\{0,1\}' |
        sed 's/^"match":\[{"host":\[\([^]]*\)\],"path":\["\([^"]*\)"$/\1 \2/; t; s/^"match":\[{"host":\[\([^]]*\)\]$/\1 \//' |
        awk '{ n = split($1, hosts, ","); for (i = 1; i <= n; i++) { gsub(/"/, "", hosts[i]); print hosts[i], $2 } }' | sort -u
}

# `host /` of the routers that the API (Traefik's form, JSON) lists; a rule without a host as `any: RULE`.
api_hosts() {
    awk '{
        n = split($0, part, /"rule":"/)
        for (i = 2; i <= n; i++) {
            # Behind each rule stands its own provider, before the next one. The control plane is internal, and has hosts.
            internal = part[i] ~ /"provider":"internal"/
            rule = part[i]
            if (!match(rule, /^([^"\\]|\\.)*/)) continue
            rule = substr(rule, 1, RLENGTH)
            gsub(/\\u0026/, "\\&", rule); gsub(/\\"/, "\"", rule)
            rest = rule; found = 0
            while (match(rest, /(^|[^A-Za-z])Host\([^)]*\)/)) {
                list = substr(rest, RSTART, RLENGTH); rest = substr(rest, RSTART + RLENGTH)
                while (match(list, /[`"][^`"]*[`"]/)) {
                    print tolower(substr(list, RSTART + 1, RLENGTH - 2)), "/"
                    list = substr(list, RSTART + RLENGTH); found = 1
                }
            }
            if (!found && !internal) print "any:", rule
        }
    }' | sort -u
}

# What a proxy serves now, or would.
hosts_of() {
    case $1 in
        caddy) curl -q -s --max-time 5 "http://$PROXY_CADDY_ADMIN/config/" | caddy_hosts ;;
        standby) curl -q -s --max-time 10 --unix-socket "$STANDBY" 'http://localhost/api/http/routers?per_page=1000000' | api_hosts ;;
        rust-lb) curl -q -s --max-time 10 "http://$PROXY_RUST_LB_ADMIN/api/http/routers?per_page=1000000" | api_hosts ;;
        traefik) curl -q -s --max-time 10 "http://$PROXY_TRAEFIK_ADMIN/api/http/routers?per_page=1000000" | api_hosts ;;
        trial-ports) curl -q -s --max-time 10 "http://127.0.0.1:$trial_api/api/http/routers?per_page=1000000" | api_hosts ;;
        trial) caddy_hosts <"$work/adapted.json" ;;
    esac
}

# Compares the answers in two files. Lines of what is worse go to standard output.
compare() {
    awk -v strict="$3" '
        FILENAME == ARGV[1] { before[$1] = $2 " " $3; trusted[$1] = $4; next }
        {
            split(before[$1], b, " ")
            if (!($1 in before)) next
            # Who does not answer now is no measure.
            if (b[1] == "000" || b[1] >= 500) next
            # No certificate on disk that a trial could use: Caddy and Traefik get one when they are started.
            if ($2 == "000" && !strict && trusted[$1] != "0") next
            if ($2 == "000") print "  " $1 ": " b[1] " now, no answer then"
            else if ($2 != b[1] && (strict || $2 >= 500 || (b[1] < 400 && $2 >= 400))) print "  " $1 ": " b[1] " now, " $2 " then"
            else if (strict && $3 != b[2]) print "  " $1 ": redirects to " substr(b[2], 2) " now, to " substr($3, 2) " then"
            else if (trusted[$1] == "0" && $4 != "0") print "  " $1 ": a certificate that is trusted now, one that is not then"
        }' "$1" "$2"
}

# Compares $2 (how the new one is asked) with the proxy that serves, for hosts that both have.
compare_sample() {
    grep -v -e '^any:' -e '\*' "$work/both" >"$work/named"
    [ "$sample" -eq 0 ] || {
        # Spread over the whole list.
        lines=$(wc -l <"$work/named")
        step=$(((lines + sample - 1) / sample))
        [ "$step" -gt 0 ] || step=1
        awk -v step="$step" 'NR % step == 1 || step == 1' "$work/named" >"$work/some"
        mv "$work/some" "$work/named"
    }
    while read -r host path; do
        public_url "$host" "$path"
        plain_url "$host"
    done <"$work/named" | sort -u >"$work/urls"
    [ -s "$work/urls" ] || return 0
    say "comparing $(wc -l <"$work/urls") answers of $(wc -l <"$work/named") hosts with those of $running"
    strict=''
    [ "$target" != rust-lb ] || strict=1
    for try in 1 2 3; do
        ask ports "$work/urls" >"$work/before"
        # Who is not served now is no measure, and may keep everybody waiting.
        awk '$2 != "000" && $2 < 500 { print $1 }' "$work/before" >"$work/urls"
        ask "$1" "$work/urls" >"$work/after"
        compare "$work/before" "$work/after" "$strict" >"$work/differences"
        # What is held to once the new one has the ports.
        [ "$try" != 1 ] || cp "$work/before" "$work/measure"
        [ -s "$work/differences" ] || return 0
        # A deployment may be under way: only what stays is a difference.
        sed 's/^  \([^ ]*\): .*/\1/' "$work/differences" | sort -u >"$work/urls"
        [ "$try" = 3 ] || sleep 0.3
    done
    return 1
}

# Fills $work/both; says what is missing ($work/missing) and what is new ($work/new).
compare_lists() {
    awk 'FILENAME == ARGV[1] { if ($1 != "any:") has[$1] = 1; next } ($1 in has)' "$work/theirs" "$work/ours" >"$work/both"
    # A wildcard is an expression elsewhere: it cannot be found by its name.
    awk 'FILENAME == ARGV[1] { has[$1] = 1; next } $1 != "any:" && $1 !~ /\*/ && !($1 in has)' \
        "$work/theirs" "$work/ours" >"$work/missing"
    awk 'FILENAME == ARGV[1] { if ($1 == "any:") any[$0] = 1; else has[$1] = 1; next } $1 == "any:" ? !($0 in any) : !($1 in has)' \
        "$work/ours" "$work/theirs" | sed 's/^any: /any host: /; t; s/ .*//' | sort -u >"$work/new"
}

show() {
    head -n 50 "$1" | sed 's/ \/$//; s/^ */  /' >&2
    more=$(($(wc -l <"$1") - 50))
    [ "$more" -le 0 ] || printf '  … and %s more\n' "$more" >&2
}

# --- trials ---------------------------------------------------------------------------------------------------------

trial_pid=''
end_trial() {
    [ -n "$trial_pid" ] || return 0
    # shellcheck disable=SC2046 # words are what is wanted
    set -- $(family "$trial_pid")
    kill "$trial_pid" 2>/dev/null
    (sleep 5; kill -9 "$@") >/dev/null 2>&1 9>&- &
    killer=$!
    wait "$trial_pid" 2>/dev/null
    kill "$killer" 2>/dev/null
    trial_pid=''
}

trial_answers() {
    kill -0 "$trial_pid" 2>/dev/null || return 0
    case $target in
        caddy) [ -S "$work/secure.sock" ] || [ -S "$work/plain.sock" ] ;;
        traefik) listens "$trial_pid" "$trial_https" && listens "$trial_pid" "$trial_http" ;;
    esac
}

# Starts the target beside the proxy that serves, where nobody asks it; sets $trial_pid.
start_trial() {
    case $target in
        caddy)
            caddyfile=$PROXY_CADDYFILE
            program_pid consul-template >/dev/null || render
            if ! "$PROXY_CADDY" adapt --pretty --config "$caddyfile" --adapter caddyfile >"$work/adapted.json" 2>"$work/said"; then
                grep -v '"level":"warn"' "$work/said" | show_text
                if [ ! -s "$caddyfile.good" ]; then
                    say "caddy refuses $caddyfile"
                    return 1
                fi
                say "caddy refuses $caddyfile; taking the last one that it took, $caddyfile.good"
                caddyfile=$caddyfile.good
                "$PROXY_CADDY" adapt --pretty --config "$caddyfile" --adapter caddyfile >"$work/adapted.json" 2>"$work/said" || return 1
            fi
            trial_configuration "$work/adapted.json" >"$work/trial.json"
            set -- "$PROXY_CADDY" run --config "$work/trial.json"
            ;;
        traefik)
            trial_http=$(free_port 18080) trial_https=$(free_port 18443) trial_api=$(free_port 18081)
            set -- "$PROXY_TRAEFIK" "--configFile=$work/traefik.yaml"
            trial_traefik <"$PROXY_TRAEFIK_CONFIG" >"$work/traefik.yaml"
            ;;
    esac
    # Where this is killed, the next one ends it, or the time.
    timeout 300 "$@" >"$work/trial.log" 2>&1 </dev/null 9>&- &
    trial_pid=$!
    printf '%s\n' "$trial_pid" >"$work/trial.pid"
    if within "$PROXY_READY_SECONDS" trial_answers && kill -0 "$trial_pid" 2>/dev/null; then
        return 0
    fi
    say "$target does not come up in a trial:"
    show_text <"$work/trial.log"
    return 1
}

# Where consul-template was not kept running (PROXY_KEEP_CADDYFILE=0) the file is as old as the last switch. While the catalogs
# are down that is what there is.
render() {
    timeout 10 "$PROXY_CONSUL_TEMPLATE" -once -template "$PROXY_CADDYFILE_TEMPLATE:$PROXY_CADDYFILE" \
        >"$work/said" 2>&1 </dev/null 9>&- && return 0
    say "consul-template does not run, and cannot render $PROXY_CADDYFILE now: taking it as it is"
    show_text <"$work/said"
}

show_text() {
    tail -n 10 | cut -c 1-400 | sed 's/^/  /' >&2
}

free_port() {
    port=$1
    while [ -n "$(listening_inodes "$port")" ]; do port=$((port + 1)); done
    printf '%s\n' "$port"
}

# Caddy's configuration ($1, JSON as `caddy adapt --pretty` prints it) on Unix sockets, with the certificates that are
# on disk and no way to order others, without admin API and log file. What is said twice counts as it is said last.
trial_configuration() {
    timeout 20 find "$PROXY_CERTS/certificates" -name '*.crt' 2>/dev/null | while read -r crt; do
        key=${crt%.crt}.key
        [ -s "$key" ] && printf '{"certificate":"%s","key":"%s"}\n' "${crt#"$PROXY_CERTS"/}" "${key#"$PROXY_CERTS"/}"
    done | paste -sd, - >"$work/pairs"
    awk -v dir="$work" -v http="$PROXY_HTTP_PORT" -v pairs="$(cat "$work/pairs")" '
        /^\t\t\t\t\t"listen": \[/ { listen = 1; print; next }
        listen { address = $0; gsub(/[",\t ]/, "", address); sub(/.*:/, "", address); port = address; listen = 0 }
        /^\t"apps": \{/ { apps = 1 }
        apps && /^\t\t"pki": \{/ { pki = ",\"pki\": {\"certificate_authorities\": {\"local\": {\"install_trust\": false}}}" }
        /^\t\t\t\t\}/ {
            name = port == http ? "plain" : secure++ ? "other" secure : "secure"
            printf ",\"listen\": [\"unix/%s/%s.sock\"], \"automatic_https\": {\"disable\": true}", dir, name
            print name == "plain" ? "" : ", \"tls_connection_policies\": [{}]"
        }
        apps && /^\t\}/ {
            apps = 0
            print ",\"tls\": {\"certificates\": {\"load_storage\": {\"pairs\": [" pairs "]}}}" pki
        }
        /^\}/ { print ",\"admin\": {\"disabled\": true}, \"logging\": {\"logs\": {\"default\": {\"level\": \"ERROR\"}}}" }
        { print }
    ' "$1"
}

# Traefik's static configuration (YAML, standard input) on the ports of a trial, with no place to keep certificates. What is not
# named there is added: the API, which tells the hosts, and its entry point, whose port may be rust-lb's as well.
trial_traefik() {
    set -- "$PROXY_HTTP_PORT:$trial_http" "$PROXY_HTTPS_PORT:$trial_https" "${PROXY_TRAEFIK_ADMIN##*:}:$trial_api"
    for pair in "$@"; do
        # Behind a port stands a quote, a brace, a protocol or nothing.
        printf '/^entry[pP]oints:/,/^[a-zA-Z]/ s/\\(address:.*\\):%s\\([^0-9]\\|$\\)/\\1:%s\\2/\n' "${pair%:*}" "${pair#*:}"
    done >"$work/ports.sed"
    sed -f "$work/ports.sed" -e 's/^\( *\)storage:.*/\1storage: \/dev\/null/' | awk -v port="$trial_api" '
        /^[a-zA-Z]/ { section = tolower($1); named[section] = 1 }
        section == "entrypoints:" && /^[ \t]+traefik:/ { named["its entry point"] = 1 }
        { lines[++n] = $0 }
        END {
            for (i = 1; i <= n; i++) {
                print lines[i]
                if (tolower(lines[i]) !~ /^entrypoints:/ || named["its entry point"]) continue
                # As deep as its neighbours are.
                for (j = i + 1; j < n && lines[j] ~ /^[ \t]*(#.*)?$/; j++) {}
                match(lines[j], /^[ \t]*/)
                indent = substr(lines[j], 1, RLENGTH)
                printf "%straefik:\n%s  address: \"127.0.0.1:%s\"\n", indent, indent, port
            }
            if (!named["entrypoints:"]) printf "entryPoints:\n  traefik:\n    address: \"127.0.0.1:%s\"\n", port
            if (!named["api:"]) print "api:\n  insecure: true"
        }'
}
