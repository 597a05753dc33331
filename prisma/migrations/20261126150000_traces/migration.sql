-- The span that published an event (W3C traceparent), for attempts that are made long after it; null where it was not traced.
ALTER TABLE webhook_events ADD COLUMN traceparent text;
