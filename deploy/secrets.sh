#!/bin/sh
# Makes the certificates and passwords for deploy/compose.yaml; files that exist are kept. Needs openssl 3.
#   deploy/secrets.sh [NAME-OR-ADDRESS...]    of the broker for its clients, besides mosquitto and localhost
# A further node, line4: `touch deploy/secrets/mqtt-password-line4`, run this again, restart mosquitto; the file then
# contains the password.
# To renew the broker's certificate: delete server.crt, run this again, restart mosquitto. Keep ca.key elsewhere.
set -eu
dir=${SECRETS_DIR:-$(dirname "$0")/secrets}
DAYS_CA=3650
DAYS_SERVER=825

# Other users of this host cannot enter the folder. Its files are readable by all: each container has its own user.
mkdir -p "$dir"
chmod 0700 "$dir"
cd "$dir"
umask 022

ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
if [ ! -e ca.key ]; then
    # shellcheck disable=SC2086  # splits into words
    openssl req -x509 $ec -days "$DAYS_CA" -subj "/CN=defectd CA" -keyout ca.key -out ca.crt \
        -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
    chmod 0600 ca.key
fi
if [ ! -e server.crt ]; then
    names=DNS:mosquitto,DNS:localhost,IP:127.0.0.1
    for name in "$@"; do
        case $name in
        *[!0-9.]*) names=$names,DNS:$name ;;
        *) names=$names,IP:$name ;;
        esac
    done
    # shellcheck disable=SC2086
    openssl req $ec -subj "/CN=mosquitto" -keyout server.key -out server.csr 2>/dev/null
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$names" >server.ext
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days "$DAYS_SERVER" -extfile server.ext \
        -out server.crt 2>/dev/null
    chmod 0644 server.key
    rm -f server.csr server.ext
fi

for name in mqtt-password mqtt-password-* scada-password grafana-password; do
    [ "$name" = 'mqtt-password-*' ] || [ -s "$name" ] || openssl rand -hex 20 >"$name"
done

hashed() { # USER FILE: a line of Mosquitto's password file: PBKDF2 with SHA-512, as mosquitto_passwd writes it
    salt=$(openssl rand -base64 12)
    hexsalt=$(echo "$salt" | openssl base64 -d | od -An -tx1 | tr -d ' \n')
    key=$(openssl kdf -binary -keylen 64 -kdfopt digest:SHA512 -kdfopt "pass:$(cat "$2")" -kdfopt "hexsalt:$hexsalt" \
        -kdfopt iter:10000 PBKDF2 | openssl base64 -A)
    echo "$1:\$7\$10000\$$salt\$$key"
}
{
    hashed line3 mqtt-password
    for file in mqtt-password-*; do
        [ ! -e "$file" ] || hashed "${file#mqtt-password-}" "$file"
    done
    hashed scada scada-password
} >passwd
echo "$dir contains: $(echo *)"
