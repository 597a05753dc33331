#!/bin/sh
# Runs once, on an empty data folder. Nobody here but `postgres` is a superuser:
#   remit          owns the database and its tables; only `remit migrate` is this login
#   remit_app      what remit may do with the tables; the migrations give it its rights
#   remit_service  the login of api, worker and relay: remit_app and nothing else
#   temporal       makes its two databases itself
set -eu

# psql reads the passwords itself (15 or later): a command line is there for everybody who lists processes.
: "${REMIT_DB_PASSWORD:?}" "${REMIT_SERVICE_DB_PASSWORD:?}" "${TEMPORAL_DB_PASSWORD:?}"
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv remit_password REMIT_DB_PASSWORD
\getenv service_password REMIT_SERVICE_DB_PASSWORD
\getenv temporal_password TEMPORAL_DB_PASSWORD
CREATE ROLE remit LOGIN PASSWORD :'remit_password';
CREATE ROLE remit_app NOLOGIN;
CREATE ROLE remit_service LOGIN PASSWORD :'service_password' IN ROLE remit_app;
CREATE DATABASE remit OWNER remit;
CREATE ROLE temporal LOGIN CREATEDB PASSWORD :'temporal_password';
-- A node of Temporal that hangs would keep the rows locked that another one needs to take over its workflows. remit's own sessions ask
-- for as much themselves.
ALTER ROLE temporal SET idle_in_transaction_session_timeout = '10s';
REVOKE ALL ON DATABASE remit FROM PUBLIC;
GRANT CONNECT ON DATABASE remit TO remit_app;
SQL
