-- Links that show subscribers their own subscriptions, each opened once by one browser, whose session stands in the same
-- row. Neither the link's code nor what the browser sends is here: only their SHA-256, so that a copy of the database opens
-- nothing.
CREATE TABLE portal_links (
  id               uuid PRIMARY KEY,
  tenant_id        text NOT NULL,
  code_hash        bytea NOT NULL UNIQUE CHECK (octet_length(code_hash) = 32),
  subscription_ids text[] NOT NULL CHECK (cardinality(subscription_ids) BETWEEN 1 AND 50),
  read_only        boolean NOT NULL,
  brand_name       text,
  brand_color      text CHECK (brand_color ~ '^#[0-9a-f]{6}$'),
  -- How long the session lasts from its opening, in seconds.
  session_s        integer NOT NULL CHECK (session_s > 0),
  created_by       text NOT NULL,
  created_at       timestamptz(3) NOT NULL DEFAULT now(),
  -- It can't be opened any more then.
  expires_at       timestamptz(3) NOT NULL,
  opened_at        timestamptz(3),
  session_hash     bytea UNIQUE CHECK (octet_length(session_hash) = 32),
  session_ends_at  timestamptz(3),
  -- Ends the link and its session.
  revoked_at       timestamptz(3),
  CONSTRAINT opened_once CHECK ((opened_at IS NULL) = (session_hash IS NULL) AND (opened_at IS NULL) = (session_ends_at IS NULL))
);
CREATE INDEX portal_links_tenant_id_created_at_id_idx ON portal_links (tenant_id, created_at DESC, id DESC);
CREATE INDEX portal_links_expires_at_idx ON portal_links (expires_at);
