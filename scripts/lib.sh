# Shared by the scripts beside it: what they say, and how they get what they need.

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# have_server NAME: where a user's PATH may not reach, too
have_server() { have "$1" || [ -x "/usr/sbin/$1" ]; }

# can_install: whether apt may be used here
can_install() { have apt-get && [ "$(id -u)" = 0 ]; }

# apt_install PACKAGE...: installs Debian packages, saying so; none of them starts a service
apt_install() {
	say "installing $* with apt (a minute or so)"
	if [ -z "${apt_updated:-}" ]; then
		apt-get update -qq || return 1
		apt_updated=1
	fi
	without_services env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# without_services COMMAND...: meanwhile packages may not start services, unless this
# machine has a policy of its own (Debian policy 9.3.3.1, invoke-rc.d(8); 101: not allowed)
without_services() (
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		trap 'exit 129' HUP
		trap 'exit 130' INT
		trap 'exit 143' TERM
		printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || exit 1
	fi
	"$@"
)

need_go() { have go || die "Go is not installed; see https://go.dev/doc/install (go.mod names the version)"; }

# have_node: whether Node.js 18 or newer with npm is there, which builds the pages
have_node() {
	have node && have npm && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]
}

no_node="Node.js 18 or newer with npm is missing; as root type: apt-get install nodejs npm"

need_node() {
	have_node && return
	can_install || die "$no_node"
	apt_install nodejs npm || die "apt could not install nodejs and npm; its messages stand above"
}

# npm_packages DIR: what DIR/package-lock.json lists, unless it is there already
npm_packages() {
	local stamp="$1/node_modules/.package-lock.json"
	[ -e "$stamp" ] && [ ! "$1/package-lock.json" -nt "$stamp" ] && return
	say "installing npm packages into $1/node_modules (10 to 60 s)"
	(cd "$1" && npm ci --no-fund --no-audit --loglevel=error) || die "npm could not install the packages of $1; its messages stand above"
	touch "$stamp"
}

# kubo: builds the IPFS node that the relay is tested with
kubo() {
	say "building kubo (about two minutes the first time)"
	(cd internal/interop/kubo && go build -o ipfs github.com/ipfs/kubo/cmd/ipfs) || die "kubo does not build; its messages stand above"
}

# test_tools: everything that tests need and that can be had here; Node and
# browsers may still be missing after it
test_tools() {
	need_go
	if have_node || can_install; then
		need_node
		npm_packages examples/browser
		npm_packages internal/interop/js
	fi
	local missing=()
	have chromium || missing+=(chromium)
	have firefox-esr || missing+=(firefox-esr)
	have ip || missing+=(iproute2)
	have nft || missing+=(nftables) # the NATs between peers
	have_server nginx || missing+=(nginx)
	have_server haproxy || missing+=(haproxy)
	have certutil || missing+=(libnss3-tools) # browsers that trust the tests' CA
	have gcc || missing+=(gcc libc6-dev) # Go's race detector
	if [ ${#missing[@]} -gt 0 ] && can_install; then
		apt_install "${missing[@]}" fonts-dejavu-core || die "apt could not install ${missing[*]}"
		local package
		for package in "${missing[@]}"; do
			case $package in nginx | haproxy) update-rc.d "$package" disable ;; esac # nor at the next start of the machine
		done
	fi
}

# page: builds the demo page into examples/browser/dist
page() {
	need_node
	npm_packages examples/browser
	say "building the demo page"
	(cd examples/browser && npm run --silent build) || die "the demo page does not build"
}
