#!/bin/sh
# Makes the secrets of compose.yaml in ./secrets, each once: what is there stays as it is.
# The folder is its owner's alone. The files are open to their group too, which the containers are given:
# each of them runs as a user of its own.
set -eu
umask 077
mkdir -p secrets
chmod 700 secrets

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# keep NAME: standard input, unless it is there already; whole or not at all.
keep() {
    [ -s "secrets/$1" ] && { cat > /dev/null; return; }
    cat > "secrets/.$1"
    chmod 640 "secrets/.$1"
    mv "secrets/.$1" "secrets/$1"
}

random | keep postgres_password
printf 'postgresql://chrono:%s@postgresql:5432/chrono\n' "$(cat secrets/postgres_password)" | keep database_url
random | keep redis_password
printf 'redis://chrono:%s@redis:6379/0\n' "$(cat secrets/redis_password)" | keep redis_url
# The cache may read, write and look at itself; the health check may only ask whether anybody is there.
keep redis_acl << ACL
user default off
user chrono on >$(cat secrets/redis_password) ~* resetchannels +@all -@dangerous -@admin +info +config|get
user health on nopass resetkeys resetchannels -@all +ping
ACL
random | keep meilisearch_key
random | keep ray_token
random | keep grafana_password

# The superuser's group would be more than the files: another one where he makes them.
[ "$(id -g)" != 0 ] || chgrp 10001 secrets/*

# The group of the files, for compose.yaml.
group="SECRETS_GID=$(stat -c %g secrets/ray_token)"
if [ -f .env ] && grep -q '^SECRETS_GID=' .env; then
    grep -qx "$group" .env || { echo ".env says another SECRETS_GID than that of ./secrets: write $group" >&2; exit 1; }
else
    echo "$group" >> .env
fi
