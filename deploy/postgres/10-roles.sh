#!/bin/sh
# Runs once, on an empty data folder: remit and Temporal each get a role and a password of their own, neither of them a
# superuser. Temporal's schema tool makes its two databases itself.
set -eu

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  --set remit_password="$REMIT_DB_PASSWORD" --set temporal_password="$TEMPORAL_DB_PASSWORD" <<'SQL'
CREATE ROLE remit LOGIN PASSWORD :'remit_password';
CREATE DATABASE remit OWNER remit;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal_password';
REVOKE CONNECT ON DATABASE remit FROM PUBLIC;
SQL
