-- A client's own id, labels and metadata of a subscription, and secrets that were replaced before the previous one and
-- whose overlap is not over: a second rotation must end none of them early.
ALTER TABLE subscriptions
  ADD COLUMN uid text,
  ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
  ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN older_secret_ciphertexts bytea[] NOT NULL DEFAULT '{}',
  ADD COLUMN older_secrets_valid_until timestamptz(3)[] NOT NULL DEFAULT '{}',
  ADD CONSTRAINT older_secrets_have_an_end
    CHECK (cardinality(older_secret_ciphertexts) = cardinality(older_secrets_valid_until)),
  ADD CONSTRAINT subscriptions_tenant_id_uid_key UNIQUE (tenant_id, uid);
