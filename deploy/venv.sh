#!/bin/sh
# deploy/venv.sh PYTHON FOLDER: creates a virtual environment with pip, on Debian without python3-venv too.
set -u
python=$1
folder=$2

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

for candidate in "$python" python3.13 python3.12 python3.11; do
    if is_new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if ! is_new_enough "$python"; then
    echo "imagejobs needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Try: make PYTHON=/path/to/python3" >&2
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
create() { rm -rf "$folder" && "$@" "$folder" >>"$log" 2>&1 && [ -x "$folder/bin/pip" ]; }

install_venv_package() {
    command -v apt-get >/dev/null || return 1
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo="sudo -n"
    version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    for package in "$version" python3-venv; do
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y "$package" >>"$log" 2>&1 && return 0
        $sudo apt-get update >>"$log" 2>&1
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y "$package" >>"$log" 2>&1 && return 0
    done
    return 1
}

create "$python" -m venv && exit 0
create virtualenv --python "$python" && exit 0
install_venv_package && create "$python" -m venv && exit 0

rm -rf "$folder"
tail -n 20 "$log" >&2
echo "Could not create $folder (see above). On Debian and Ubuntu: apt-get install python3-venv" >&2
exit 1
