# shellcheck shell=sh
# What the scripts of this folder share. Sourced with the repository as working directory.

# The system's own Python: the hosts of the lab have no other one in their PATH.
PYTHON=${PYTHON:-/usr/bin/python3}

# Where what is built or fetched for tests alone is kept; `tests/cache.py` has the same default.
NMK_TEST_CACHE=${NMK_TEST_CACHE:-/var/cache/nmk-tests}
export NMK_TEST_CACHE

say() {
	printf '%s\n' "$*" >&2
}

# fail WHAT-IS-WRONG [WHAT-TO-TRY]
fail() {
	say "${0##*/}: $1"
	[ $# -lt 2 ] || say "  try: $2"
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || fail "makes network namespaces, which only root can" "sudo $0"
}

# need_packages PACKAGE...: installs the Debian packages that are missing; no apt when none is.
need_packages() {
	missing=
	for package in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
		installed) ;;
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || fail "packages are missing:$missing" "sudo apt-get install$missing"
	say "installing$missing"
	# shellcheck disable=SC2086 # a list of names
	apt_install $missing 2>/dev/null || { apt_get update && apt_install $missing; } ||
		fail "could not install$missing" "apt-get update && apt-get install$missing"
}

apt_install() {
	apt_get install --yes --no-install-recommends "$@"
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

# make_venv: .venv with the locked development tools, made anew when the lock or Python changed.
make_venv() {
	need_packages python3-venv
	lock=scripts/requirements-dev.txt
	made_from=$("$PYTHON" --version && sha256sum <"$lock")
	[ "$(cat .venv/made-from 2>/dev/null)" != "$made_from" ] || return 0
	say "making .venv"
	rm -rf .venv
	"$PYTHON" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
		--only-binary :all: --require-hashes --requirement "$lock"
	printf '%s\n' "$made_from" >.venv/made-from
}

# build_nmk: makes dist/nmk, for the Python that the hosts of the lab have.
build_nmk() {
	need_packages python3-venv
	"$PYTHON" build_zipapp.py >&2
}

# debian_mirror SUITE: where this machine gets that suite from.
debian_mirror() {
	# shellcheck disable=SC2016 # for apt to fill in
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Release: $1" | head -n 1
}
