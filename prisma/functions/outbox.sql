-- The outbox: messages for Kafka, written in the transaction that they report. The relay publishes and deletes them.

-- The span in which a statement runs (W3C traceparent), which whoever traces sets for its transaction; null for the others.
CREATE OR REPLACE FUNCTION traceparent_here() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT nullif(current_setting('remit.traceparent', true), '')
$$;

-- Puts a message into the outbox. p_topic is the topic's logical name, which the relay maps to the configured one; what
-- has one p_key keeps its order. Not idempotent.
CREATE OR REPLACE FUNCTION outbox_put(p_topic text, p_key text, p_value jsonb, p_correlation text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO outbox (topic, key, value, headers)
  VALUES (p_topic, p_key, p_value::text, jsonb_strip_nulls(jsonb_build_object(
    'remit-correlation-id', coalesce(p_correlation, ''), 'traceparent', traceparent_here())));
END $$;
