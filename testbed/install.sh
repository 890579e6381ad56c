#!/bin/bash
# Installs what the tests need from Debian: MariaDB, Redis, nginx, promtool out of Prometheus, a
# browser, a clock that is wrong, and a font.
# Nothing is done where the programs are there. No system service is started: the tests start their own.
set -euo pipefail

wanted=("mariadbd mariadb-server" "redis-server redis-server" "nginx nginx-light" "promtool prometheus" "chromium chromium")
wanted+=("faketime faketime" "systemd-analyze systemd" "docker-compose docker-compose")

PATH="$PATH:/usr/sbin:/usr/local/sbin"
missing=()
for pair in "${wanted[@]}"; do
    command -v "${pair% *}" >/dev/null || missing+=("${pair#* }")
done
# The second engine of the barcodes is a library, not a command.
[[ "$(ldconfig -p 2>/dev/null)" == *libzbar.so.0* ]] || missing+=(libzbar0)
# Letters that no package of Python has in a small font.
[[ -e /usr/share/fonts/truetype/wqy/wqy-microhei.ttc ]] || missing+=(fonts-wqy-microhei)
if [[ ${#missing[@]} -eq 0 ]]; then
    exit 0
fi

give_up() {
    echo "The tests need ${missing[*]}: $1. Install them, then try again." >&2
    exit 1
}

command -v apt-get >/dev/null || give_up "there is no apt-get here to install them with"
as_root=()
if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || give_up "installing them takes root, and there is no sudo"
    # A question for a password makes sense only where somebody sits at a terminal.
    sudo -n true 2>/dev/null || [[ -t 0 ]] || give_up "installing them takes root, and sudo asks for a password"
    as_root=(sudo)
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=
clean_up() {
    rm -f "$log"
    [[ -z "$made_policy" ]] || "${as_root[@]}" rm -f "$policy"
}
trap clean_up EXIT

# Debian starts a server as soon as it is installed, unless this file forbids it (101: action not allowed).
if [[ ! -e "$policy" ]]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

echo "Installing ${missing[*]} ..."
install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "${missing[@]}" >>"$log" 2>&1
}
# The package lists may be absent or out of date: fetch them only if it does not go without.
if ! install; then
    "${as_root[@]}" apt-get update >>"$log" 2>&1 || true
    install || { tail -n 30 "$log" >&2; give_up "apt-get could not install them (its last words are above)"; }
fi
