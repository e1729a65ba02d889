#!/bin/sh
# Installs nmk on this machine: one file in /usr/local/bin, and from the package manager what nmk
# drives, where it is missing.

set -eu

# A controller fills this in when it serves the script: only that very file will be installed.
NMK_SHA256="@NMK_SHA256@"

TARGET=/usr/local/bin/nmk
LONGEST=120       # seconds that the download may take
MOST_BLOCKS=65536 # of 512 bytes that it may write
here=${0%"${0##*/}"}
new=

usage() {
	cat <<'END'
usage: install.sh server              install nmk, to run a controller
       install.sh join TOKEN [OPTION...]  install nmk and join a network; `-` reads the token
                                      from standard input, none takes it from NMK_JOIN_TOKEN
       install.sh uninstall           undo what nmk did to this machine, and remove it

The file `nmk` comes from $NMK_SOURCE, a controller's URL such as http://198.51.100.7:50051,
or from beside this script. OPTIONs are those of `nmk join`.
END
}

say() {
	printf 'nmk: %s\n' "$1" >&2
}

# fail EXIT-CODE WHAT-IS-WRONG WHAT-TO-TRY
fail() {
	say "$2"
	printf '  try: %s\n' "$3" >&2
	exit "$1"
}

has() {
	command -v "$1" >/dev/null 2>&1
}

need_root() {
	[ "$(id -u)" = 0 ] || fail 1 "only root can install or remove nmk" "sudo sh install.sh $1"
}

# fetch_nmk: puts the file, checked, where it can be renamed to its name.
fetch_nmk() {
	mkdir -p "${TARGET%/*}"
	new=$(mktemp "${TARGET%/*}/.nmk.XXXXXX")
	if [ -n "${NMK_SOURCE-}" ]; then
		download "${NMK_SOURCE%/}/nmk"
	elif [ -f "${here}nmk" ]; then
		cp "${here}nmk" "$new"
	elif [ -f "${here}dist/nmk" ]; then
		cp "${here}dist/nmk" "$new"
	else
		fail 1 "there is no file nmk beside install.sh" "$(way_to_nmk)"
	fi
	if is_pinned && [ "$(sha256sum <"$new")" != "$NMK_SHA256  -" ]; then
		fail 1 "the file nmk is not the one that this script is for (its SHA-256 differs)" \
			"get install.sh and nmk from the same controller"
	fi
	chmod 755 "$new"
}

# way_to_nmk: what to do where the file is not there.
way_to_nmk() {
	if [ -f "${here}build_zipapp.py" ]; then
		echo "python3 \"${here}build_zipapp.py\""
	else
		echo "put it there, or on a controller, for a line that brings it along: nmk key create"
	fi
}

is_pinned() {
	case $NMK_SHA256 in
	@*) return 1 ;;
	esac
}

download() {
	case $1 in
	https://*) ;;
	*)
		is_pinned || fail 1 "this script knows no checksum, so it cannot trust \"$1\"" \
			"the line that \`nmk key create\` prints"
		;;
	esac
	if has curl; then
		bounded curl -gfsS --connect-timeout 15 -y 30 -m "$LONGEST" -o "$new" "$1"
	elif has wget && has timeout; then
		bounded timeout "$LONGEST" wget -qO "$new" "$1"
	elif has python3; then
		bounded python3 -I -c 'import shutil, signal, sys, urllib.request as r
signal.alarm(int(sys.argv[2]))
shutil.copyfileobj(r.urlopen(sys.argv[1]), sys.stdout.buffer)' "$1" "$LONGEST" 2>/dev/null >"$new"
	else
		fail 1 "there is no curl, wget (with timeout) or python3 on this machine" "install one of them"
	fi || fail 75 "could not get \"$1\"" \
		"on its host: nmk server, and let this machine reach its TCP port"
}

# bounded COMMAND...: whoever answers may send without end; what writes more fails, with EFBIG.
bounded() (
	trap '' XFSZ
	ulimit -f "$MOST_BLOCKS"
	exec "$@"
)

# need TOOL...: installs the packages with the tools that are missing.
need() {
	tools=
	packages=
	for tool in "$@"; do
		has_tool "$tool" && continue
		tools="$tools $tool"
		packages="$packages $(package_with "$tool")"
	done
	[ -n "$tools" ] || return 0
	has apt-get || fail 1 "these tools are missing:$tools" \
		"install them with this machine's package manager, then this again"
	say "installing$packages"
	# shellcheck disable=SC2086 # a list of names
	apt_install $packages 2>/dev/null || { apt_get update && apt_install $packages; } ||
		fail 1 "could not install$packages" "apt-get update && apt-get install$packages"
}

has_tool() {
	case $1 in
	python3) has python3 && python3 -I -c 'import lzma, sqlite3' 2>/dev/null ;; # -minimal is too small
	wireguard-go) has wireguard-go || has boringtun || has boringtun-cli || kernel_has_wireguard ;;
	ip) has ip && case $(ip -V 2>&1 </dev/null) in *BusyBox*) false ;; esac ;; # lacks -json, -batch
	*) has "$1" ;;
	esac
}

kernel_has_wireguard() {
	ip link add dev nmk-probe type wireguard 2>/dev/null && ip link delete dev nmk-probe
}

package_with() {
	case $1 in
	wg) echo wireguard-tools ;;
	ip) echo iproute2 ;;
	*) echo "$1" ;;
	esac
}

apt_install() {
	apt_get install --yes --no-install-recommends "$@"
}

# Standard input may carry the token: apt must not read it.
apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

# put_in_place: what does not start on this machine never replaces what did.
put_in_place() {
	"$new" version </dev/null >/dev/null || exit
	mv -f "$new" "$TARGET"
	say "installed $TARGET"
}

main() {
	case ${1-} in
	server)
		need_root server
		fetch_nmk
		need python3
		put_in_place
		echo "next: nmk server   (starts the controller and says what to do then)"
		;;
	join)
		need_root join
		shift
		fetch_nmk
		need python3 wg ip
		need wireguard-go
		put_in_place
		join "$@"
		;;
	uninstall)
		need_root uninstall
		shift
		if [ -e "$TARGET" ]; then
			exec "$TARGET" uninstall "$@"
		fi
		say "there is no $TARGET: nothing to do"
		for left in /var/lib/nmk /etc/nmk; do
			[ ! -e "$left" ] || say "$left is there; to remove it, once no nmk runs: rm -r $left"
		done
		;;
	-h | --help) usage ;;
	*)
		usage >&2
		exit 2
		;;
	esac
}

# join [TOKEN] [OPTION...]: the token goes through standard input, as other users can read arguments.
join() {
	case ${1-} in
	'' | -*) exec "$TARGET" join "$@" ;;
	esac
	token=$1
	shift
	exec "$TARGET" join - "$@" <<-END
		$token
	END
}

umask 022
PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
trap '[ -z "$new" ] || rm -f "$new"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
main "$@"
