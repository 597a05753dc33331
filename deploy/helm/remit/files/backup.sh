#!/bin/sh
# One dump of the database into $BACKUP_FOLDER, readable by pg_restore; the newest $BACKUP_KEEP stay. A dump has its name only when
# it is complete and its table of contents can be read, so that what is there can be taken.
set -eu

dump="$BACKUP_FOLDER/remit-$(date -u +%Y%m%dT%H%M%SZ).dump"
# Of a run that was killed.
rm -f "$BACKUP_FOLDER"/remit-*.dump.part

pg_dump --format=custom --no-password --dbname="$DATABASE_URL" --file="$dump.part"
pg_restore --list "$dump.part" >/dev/null
mv "$dump.part" "$dump"
echo "$dump: $(wc -c <"$dump") bytes"

# Names sort by time.
find "$BACKUP_FOLDER" -maxdepth 1 -name 'remit-*.dump' | sort -r | tail -n "+$((BACKUP_KEEP + 1))" | while read -r old; do
  rm -f "$old"
  echo "$old: removed"
done
