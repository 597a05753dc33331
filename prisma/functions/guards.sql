-- What the triggers in triggers.sql run to refuse a change. Rules of single tables are the conditions of those triggers.

-- Refuses the statement (restrict_violation): what happened to money is never rewritten, corrections are new entries.
CREATE OR REPLACE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;

-- Refuses the change of a row (restrict_violation), with the trigger's argument as the reason.
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%: %', TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$;
