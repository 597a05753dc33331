-- What the API's processes have taken of a limit in one window (docs/adr/0018). key: whose limit. used: requests that were
-- given away, which may be more than the limit: what was asked for last was not given in full.
CREATE TABLE rate_limit_windows (
  key text NOT NULL,
  starts_at timestamptz(3) NOT NULL,
  used bigint NOT NULL,
  PRIMARY KEY (key, starts_at)
) WITH (fillfactor = 50);
CREATE INDEX rate_limit_windows_starts_at_idx ON rate_limit_windows (starts_at);
