#!/bin/bash
# deploy/secrets.sh [NAME]: makes the files in secrets/ that docker-compose.yml hands to the containers. What is there is
# left alone, so a second run changes nothing. NAME is what clients call the service (for the certificate).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${1:-localhost}

# The folder keeps others out; the files must be readable for the accounts within the containers.
umask 022
mkdir -p secrets
chmod 0700 secrets

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
for secret in mysql_password mysql_root_password secret_key metrics_token grafana_password; do
    [[ -e secrets/$secret ]] || random >"secrets/$secret"
done
# The mail server's is not ours to make: it stays empty until it is put there.
[[ -e secrets/smtp_password ]] || : >secrets/smtp_password
[[ -e secrets/flower_auth ]] || printf 'flower:%s' "$(random)" >secrets/flower_auth
if [[ ! -e secrets/tls_certificate || ! -e secrets/tls_key ]]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj "/CN=$name" \
        -addext "subjectAltName=DNS:$name" -keyout secrets/tls_key -out secrets/tls_certificate 2>/dev/null
    chmod 0644 secrets/tls_key
    echo "secrets/tls_certificate vouches for itself: put one that clients trust in its place, and its key beside it"
fi
