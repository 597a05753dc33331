#!/bin/sh
# What the published image's entrypoint does with the variables that docker-compose.yml sets, and no more: a first start
# makes the data folder and runs /docker-entrypoint-initdb.d, with the server on its socket only.
set -eu

if [ "$(id -u)" = 0 ]; then
  install -d -o postgres -g postgres -m 700 "${PGDATA%/*}" "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" > "$password"
  # shellcheck disable=SC2086 # several arguments
  initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile "$password" --encoding UTF8 ${POSTGRES_INITDB_ARGS:-}
  rm "$password"
  printf "listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql'\n" >> "$PGDATA/postgresql.conf"
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl --pgdata "$PGDATA" --options "-c listen_addresses=''" --wait start
  for script in /docker-entrypoint-initdb.d/*.sh; do
    if [ -f "$script" ]; then sh "$script"; fi
  done
  pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
fi

exec "$@"
