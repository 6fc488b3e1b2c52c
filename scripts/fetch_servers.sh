#!/bin/sh
# Put prometheus, promtool, prometheus-alertmanager, amtool, postgres and mariadbd into .tools, from
# the packages of the Debian or Ubuntu this runs on. Needs no root and starts no daemon: the packages
# are unpacked, not installed. Does nothing where the programs are there already.
set -eu

cd "$(dirname "$0")/.."
tools="$PWD/.tools"
programs="prometheus promtool prometheus-alertmanager amtool initdb mariadbd"

fail() {
    echo "fetch_servers: $1" >&2
    exit 2
}

# The database servers stand outside of PATH: below lib/postgresql, and in sbin.
is_there() {
    command -v "$1" >/dev/null && return 0
    for place in "$tools" ""; do
        for found in "$place/usr/bin/$1" "$place/usr/sbin/$1" "$place"/usr/lib/postgresql/*/bin/"$1"; do
            [ -x "$found" ] && return 0
        done
    done
    return 1
}

missing() {
    for program in $programs; do
        is_there "$program" || echo "$program"
    done
}

[ -n "$(missing)" ] || exit 0
for needed in apt-get apt-cache dpkg-deb; do
    command -v "$needed" >/dev/null ||
        fail "$needed not found; install $(missing | tr '\n' ' ')by hand and put them on PATH"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Package lists of our own where the system has none or may not refresh them; same sources.
own_lists() {
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
    set -- -qq -o "Dir::State=$work/state" -o "Dir::Cache=$work/cache" \
        -o Dir::State::status=/var/lib/dpkg/status -o APT::Sandbox::User=root
    apt-get "$@" update >"$work/log" 2>&1 || return 1
    options="$*"
}

unpack() {
    # shellcheck disable=SC2086  # options are words
    (cd "$work" && apt-get $options download "$1") >"$work/log" 2>&1 || return 1
    for package in "$work"/*.deb; do
        dpkg-deb -x "$package" "$tools" || fail "cannot unpack into $tools"
        rm "$package"
    done
}

# A package with all that it needs and the system lacks.
unpack_whole() {
    mkdir -p "$work/whole/partial"
    # shellcheck disable=SC2086  # options are words
    apt-get $options -o Debug::NoLocking=1 -o Dir::Cache::archives="$work/whole" --download-only \
        --no-install-recommends --yes install "$1" >"$work/log" 2>&1 || return 1
    for package in "$work"/whole/*.deb; do
        dpkg-deb -x "$package" "$tools" || fail "cannot unpack into $tools"
        rm "$package"
    done
}

# `postgresql` is an empty package that asks for the one of the release's version.
versioned_postgresql() {
    # shellcheck disable=SC2086  # options are words
    apt-cache $options depends postgresql 2>/dev/null |
        sed -n 's/^ *Depends: \(postgresql-[0-9][0-9]*\)$/\1/p' | head -n 1
}

# In some releases promtool and amtool are packages of their own, in others parts of the servers'.
get_all() {
    for program in $(missing); do
        is_there "$program" && continue
        case $program in
        promtool) unpack promtool || unpack prometheus || return 1 ;;
        amtool) unpack amtool || unpack prometheus-alertmanager || return 1 ;;
        initdb) server=$(versioned_postgresql) && unpack_whole "${server:-postgresql}" || return 1 ;;
        mariadbd) unpack_whole mariadb-server-core || return 1 ;;
        *) unpack "$program" || return 1 ;;
        esac
    done
}

# Some packages of Alertmanager look for their templates below /usr/share and nowhere else. Give the
# unpacked program the same path through a file descriptor, which a wrapper opens: a path of the
# same length, so nothing else in the program moves.
make_movable() {
    program="$tools/usr/bin/prometheus-alertmanager"
    fixed=/usr/share/prometheus/alertmanager
    [ -d "$tools$fixed" ] && [ ! -d "$fixed" ] && grep -q "$fixed" "$program" || return 0
    mkdir -p "$tools/usr/lib"
    LC_ALL=C sed "s|$fixed|/proc/self/fd/9///////////////////|g" "$program" \
        >"$tools/usr/lib/prometheus-alertmanager"
    chmod +x "$tools/usr/lib/prometheus-alertmanager"
    cat >"$work/wrapper" <<'END'
#!/bin/sh
here=$(dirname "$0")
exec 9<"$here/../share/prometheus/alertmanager"
exec "$here/../lib/prometheus-alertmanager" "$@"
END
    chmod +x "$work/wrapper"
    mv "$work/wrapper" "$program"
}

mkdir -p "$tools"
options="-qq -o APT::Sandbox::User=root"
if ! get_all; then
    own_lists || fail "apt-get update failed: $(tail -n 1 "$work/log")"
    get_all || fail "apt-get download failed: $(tail -n 1 "$work/log")"
fi
[ ! -f "$tools/usr/bin/prometheus-alertmanager" ] || make_movable
[ -z "$(missing)" ] || fail "the packages brought no $(missing | tr '\n' ' ')"
