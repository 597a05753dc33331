-- ISO 4217 as this release knows it. Constraints hold for what is inserted from now on; rows that are there stay.
ALTER TABLE purchases DROP CONSTRAINT IF EXISTS currency_known;
ALTER TABLE purchases ADD CONSTRAINT IF NOT EXISTS currency_known CHECK currency IN (@currencies@);
