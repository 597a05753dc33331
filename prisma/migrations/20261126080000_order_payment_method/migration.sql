-- How an order is paid is one of its terms: from its user's balance, at once, or by a provider, whose webhook says so.
-- Only an order that waits for its provider has a time at which it expires.
ALTER TABLE orders
  ADD COLUMN payment_method text NOT NULL DEFAULT 'balance' CHECK (payment_method IN ('balance', 'provider')),
  ADD COLUMN expires_at timestamptz(3),
  ADD CONSTRAINT waits_for_a_provider CHECK ((payment_method = 'provider') = (expires_at IS NOT NULL));

-- For what is overdue, decided or not: deciding an order must change no indexed column (docs/adr/0002).
CREATE INDEX orders_expires_at_id_idx ON orders (expires_at, id) WHERE expires_at IS NOT NULL;
