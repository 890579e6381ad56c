#!/bin/bash
# Installs this copy of imagejobs on a host with systemd, or brings the installed one up to it. As root:
#
#   deploy/install.sh [--workers N] [--no-web]     # --no-web: a host with workers only
#
# Safe to run again: a release that is there is not installed twice, settings, secrets and certificates are never
# overwritten, and the parts are restarted one after the other only where something changed.
# With DESTDIR=/some/folder it writes the files below that folder and starts nothing (for packages, and to look first).
set -euo pipefail

workers=2
web=yes
while [[ $# -gt 0 ]]; do
    case "$1" in
        --workers) workers=${2:?--workers needs a number}; shift 2 ;;
        --no-web) web=; shift ;;
        *) echo "usage: deploy/install.sh [--workers N] [--no-web]" >&2; exit 64 ;;
    esac
done
[[ "$workers" =~ ^[0-9]+$ ]] || { echo "--workers needs a number, not '$workers'" >&2; exit 64; }

source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=${DESTDIR:-}
home=$dest/opt/imagejobs
settings=$dest/etc/imagejobs
units=$dest/etc/systemd/system
certificates=$settings/tls
# What runs in production, and nothing else of the repository.
parts=(app config.py celery_worker.py db_create.py migrations data deploy requirements.txt pyproject.toml)
changed=

is_real() { [[ -z "$dest" ]]; }
say() { echo "imagejobs: $*"; }
if is_real; then
    [[ $(id -u) -eq 0 ]] || { say "run it as root, or with DESTDIR" >&2; exit 1; }
    command -v systemctl >/dev/null || { say "there is no systemd here" >&2; exit 1; }
fi

# put FILE MODE < content: writes the file only where it differs.
put() {
    local new
    new=$(mktemp)
    cat >"$new"
    if ! cmp -s "$new" "$1"; then
        install -D -m "$2" "$new" "$1"
        changed=yes
        say "wrote ${1#"$dest"}"
    fi
    rm -f "$new"
}

# put_once FILE MODE < content: writes the file where it is not there.
put_once() { if [[ -e "$1" ]]; then cat >/dev/null; else put "$1" "$2"; fi; }
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

if is_real && ! getent passwd imagejobs >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/imagejobs --no-create-home --shell /usr/sbin/nologin imagejobs
    say "made the user imagejobs"
fi

# The release: named by its content, so the same code is the same release. `current` moves when it is whole.
name=$(cd "$source" && find "${parts[@]}" -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -c1-12)
release=$home/releases/$name
if [[ ! -e "$release/whole" ]]; then
    rm -rf "$release"
    mkdir -p "$release"
    (cd "$source" && tar --create --exclude __pycache__ "${parts[@]}") |
        tar --extract --directory "$release" --no-same-owner --no-same-permissions
    chmod -R u=rwX,go=rX "$release"
    if is_real; then
        "$release/deploy/venv.sh" "${PYTHON:-python3}" "$release/.venv"
        "$release/.venv/bin/python" -m pip --disable-pip-version-check --quiet install -r "$release/requirements.txt"
    fi
    touch "$release/whole"
    say "installed release $name"
fi
before=$(readlink "$home/current" || true)
if [[ "$before" != "releases/$name" ]]; then
    ln -s "releases/$name" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    changed=yes
fi

put_once "$settings/imagejobs.env" 0640 <"$source/deploy/imagejobs.env.example"
random | put_once "$settings/secret_key" 0640
random | put_once "$settings/metrics_token" 0640
is_real && chown -R root:imagejobs "$settings" && chmod 0750 "$settings"

put "$dest/usr/local/bin/imagejobs" 0755 <<'END'
#!/bin/bash
# imagejobs COMMAND: with the settings of this host, as the user whom they are for.
set -euo pipefail
if [[ $(id -un) != imagejobs ]]; then
    if [[ $(id -u) -ne 0 ]]; then exec sudo -- "$0" "$@"; fi
    exec runuser -u imagejobs -- "$0" "$@"
fi
# As systemd reads it: name=value by line, nothing expanded.
while IFS= read -r line; do
    [[ "$line" =~ ^[A-Z][A-Z0-9_]*= ]] && export "$line"
done </etc/imagejobs/imagejobs.env
export PYTHONPATH=/opt/imagejobs/current PYTHONDONTWRITEBYTECODE=1
exec /opt/imagejobs/current/.venv/bin/python -m app.cli "$@"
END

for unit in "$source"/deploy/systemd/*; do
    put "$units/${unit##*/}" 0644 <"$unit"
done

if [[ -n "$web" ]]; then
    if is_real && [[ ! -e "$certificates/certificate.pem" ]]; then
        mkdir -p "$certificates"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=$(hostname -f)" \
            -addext "subjectAltName=DNS:$(hostname -f)" -keyout "$certificates/key.pem" \
            -out "$certificates/certificate.pem" 2>/dev/null
        chmod 0640 "$certificates/key.pem"
        say "made a certificate that vouches for itself: put one that clients trust into ${certificates#"$dest"}"
    fi
    site=$dest/etc/nginx/sites-available/imagejobs
    filled=$(sed -e 's|\${IMAGEJOBS_HTTP}|80|g' -e 's|\${IMAGEJOBS_HTTPS}|443|g' \
        -e 's|\${IMAGEJOBS_SERVER[A-Z_]*}|unix:/run/imagejobs/web.sock|g' \
        -e 's|\${IMAGEJOBS_CERTIFICATE}|/etc/imagejobs/tls/certificate.pem|g' \
        -e 's|\${IMAGEJOBS_CERTIFICATE_KEY}|/etc/imagejobs/tls/key.pem|g' \
        -e 's|\${IMAGEJOBS_FILES}|/var/lib/imagejobs/files|g' \
        -e 's|\${IMAGEJOBS_CACHE}|/var/cache/imagejobs-assets|g' \
        -e 's|\${IMAGEJOBS_BODY_MAX}|65m|g' -e 's|\${IMAGEJOBS_UPLOAD_MAX}|4g|g' \
        "$source/deploy/nginx/imagejobs.conf.template")
    # A site that was changed by hand is left alone; the new one stands beside it.
    if [[ -e "$site" && -e "$site.shipped" ]] && ! cmp -s "$site" "$site.shipped"; then
        put "$site.new" 0644 <<<"$filled"
        say "${site#"$dest"} was changed by hand: compare it with imagejobs.new beside it"
    else
        put "$site" 0644 <<<"$filled"
        put "$site.shipped" 0644 <<<"$filled"
    fi
    mkdir -p "$dest/etc/nginx/sites-enabled"
    [[ -e "$dest/etc/nginx/sites-enabled/imagejobs" ]] ||
        ln -s ../sites-available/imagejobs "$dest/etc/nginx/sites-enabled/imagejobs"
fi

if ! is_real; then
    say "nothing was started, since DESTDIR is set"
    exit 0
fi

systemctl daemon-reload
install -d -o imagejobs -g imagejobs -m 0750 /var/lib/imagejobs
# Tables first: the code that runs still works with what a migration adds.
(cd "$home/current" && runuser -u imagejobs -- bash -c '
    while IFS= read -r line; do [[ "$line" =~ ^[A-Z][A-Z0-9_]*= ]] && export "$line"; done </etc/imagejobs/imagejobs.env
    exec .venv/bin/python db_create.py')

services=(imagejobs-recover.service imagejobs-deliver.service)
[[ -z "$web" ]] || services+=(imagejobs-web.service imagejobs-purge.timer)
for number in $(seq "$workers"); do services+=("imagejobs-worker@$number.service"); done
systemctl enable --quiet imagejobs.target "${services[@]}"
for service in "${services[@]}"; do
    # One after the other, so that most of the workers go on meanwhile.
    if [[ -n "$changed" ]]; then systemctl restart "$service"; else systemctl start "$service"; fi
done
systemctl list-units --plain --no-legend --all 'imagejobs-worker@*' | awk '{print $1}' | while read -r service; do
    number=${service#imagejobs-worker@}
    if [[ ! "${number%.service}" =~ ^[0-9]+$ ]]; then
        # One with a name, such as imagejobs-worker@reports, which somebody enabled.
        [[ -z "$changed" ]] || systemctl try-restart "$service"
    elif [[ "${number%.service}" -gt "$workers" ]]; then
        # Fewer than last time: those beyond hand back what they hold, and end.
        systemctl disable --quiet --now "$service"
    fi
done

if [[ -n "$web" ]] && command -v nginx >/dev/null; then
    # It reads the socket and the stored files by its group.
    usermod --append --groups imagejobs www-data
    nginx -t -q
    systemctl enable --quiet nginx
    if [[ -n "$changed" ]]; then systemctl restart nginx; else systemctl start nginx; fi
elif [[ -n "$web" ]]; then
    say "nginx is not installed: install it and run this again"
fi
say "release $name runs; the first key: imagejobs keys create --scope admin"
