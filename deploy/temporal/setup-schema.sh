#!/bin/sh
# Temporal's two databases, brought to the schema of this admin-tools version. Safe to repeat: it runs at every `up`.
# Reads SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_PLUGIN, which the tool takes from the environment.
set -eu

SCHEMA=${TEMPORAL_SCHEMA_DIR:-/etc/temporal/schema/postgresql/v12}

for pair in temporal:temporal temporal_visibility:visibility; do
  database=${pair%%:*}
  folder=${pair#*:}
  temporal-sql-tool --database "$database" create-database
  # Leaves the tables and the version of a database that has them.
  temporal-sql-tool --database "$database" setup-schema --version 0.0
  temporal-sql-tool --database "$database" update-schema --schema-dir "$SCHEMA/$folder/versioned"
done
