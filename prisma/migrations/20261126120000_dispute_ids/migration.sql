-- The id of a provider's dispute begins with the provider's name and a dot: two providers may number alike.
ALTER TABLE disputes
  DROP CONSTRAINT disputes_id_check,
  ADD CONSTRAINT disputes_id_check CHECK (id ~ '^([a-z][a-z0-9-]{0,31}\.)?[A-Za-z0-9_-]{1,64}$');
