#!/bin/sh
# One dump of the database into $BACKUP_FOLDER, readable by pg_restore; the newest $BACKUP_KEEP stay. A dump has its name only when
# it is complete and its table of contents can be read, so that what is there can be taken.
set -eu

dump="$BACKUP_FOLDER/remit-$(date -u +%Y%m%dT%H%M%SZ).dump"
# Of a run that was killed.
rm -f "$BACKUP_FOLDER"/remit-*.dump.part

# A command line is there for everybody who lists the processes of the node: the password goes by the environment, decoded.
url="$DATABASE_URL"
authority="${url#*://}"
authority="${authority%%[/?]*}"
case "$authority" in
  *:*@*)
    user="${authority%%:*}"
    password="${authority#*:}"
    password="${password%@*}"
    PGPASSWORD="$(printf '%s' "$password" | LC_ALL=C awk '
      function digit(c) { return index("0123456789abcdef", tolower(c)) - 1 }
      {
        for (i = 1; i <= length($0); i++) {
          c = substr($0, i, 1)
          if (c == "%") { c = sprintf("%c", digit(substr($0, i + 1, 1)) * 16 + digit(substr($0, i + 2, 1))); i += 2 }
          printf "%s", c
        }
      }')"
    export PGPASSWORD
    url="${url%%://*}://$user@${authority##*@}${url#*"$authority"}"
    ;;
esac

pg_dump --format=custom --no-password --dbname="$url" --file="$dump.part"
pg_restore --list "$dump.part" >/dev/null
mv "$dump.part" "$dump"
echo "$dump: $(wc -c <"$dump") bytes"

# Names sort by time.
find "$BACKUP_FOLDER" -maxdepth 1 -name 'remit-*.dump' | sort -r | tail -n "+$((BACKUP_KEEP + 1))" | while read -r old; do
  rm -f "$old"
  echo "$old: removed"
done
