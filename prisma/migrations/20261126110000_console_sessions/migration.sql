-- Who is logged in to the console. Neither table holds what a browser sends: only its SHA-256, so that a copy of the
-- database logs nobody in.
CREATE TABLE console_sessions (
  id_hash    bytea PRIMARY KEY CHECK (octet_length(id_hash) = 32),
  tenant_id  text NOT NULL,
  subject    text NOT NULL,
  role       text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
  -- Also what belongs to the installation and to no tenant: dead letters, lag, purchases.
  platform   boolean NOT NULL,
  login      text NOT NULL CHECK (login IN ('link', 'oidc')),
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  -- Moves on with use, up to ends_at.
  expires_at timestamptz(3) NOT NULL,
  ends_at    timestamptz(3) NOT NULL,
  revoked_at timestamptz(3)
);
CREATE INDEX console_sessions_tenant_id_subject_idx ON console_sessions (tenant_id, subject);
CREATE INDEX console_sessions_ends_at_idx ON console_sessions (ends_at);

-- Links that log in once.
CREATE TABLE console_links (
  code_hash  bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),
  tenant_id  text NOT NULL,
  subject    text NOT NULL,
  role       text NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
  -- Also what belongs to the installation and to no tenant: dead letters, lag, purchases.
  platform   boolean NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  expires_at timestamptz(3) NOT NULL,
  used_at    timestamptz(3)
);
CREATE INDEX console_links_expires_at_idx ON console_links (expires_at);
