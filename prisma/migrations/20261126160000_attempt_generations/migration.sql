-- An attempt that ends after its delivery was cancelled and sent again belongs to the time before that: its delivery's generation when
-- it was begun. NULL in rows of a version before this one. Nothing is written to the rows that are there.
ALTER TABLE delivery_attempts ADD COLUMN generation integer;
