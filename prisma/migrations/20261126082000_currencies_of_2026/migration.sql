-- ISO 4217, List One as published on 2026-01-01 (src/contracts/iso-4217.ts).
INSERT INTO currencies (code, exponent) VALUES ('XAD', 2), ('XCG', 2) ON CONFLICT DO NOTHING;

-- Withdrawn since (ANG, BGN, CUC), and codes without minor units. One that money is in stays, so that it can be shown.
DO $$
DECLARE
  v_code text;
BEGIN
  FOREACH v_code IN ARRAY ARRAY['ANG', 'BGN', 'CUC', 'XAG', 'XAU', 'XBA', 'XBB', 'XBC', 'XBD', 'XDR', 'XPD', 'XPT',
                                'XSU', 'XTS', 'XUA', 'XXX'] LOOP
    BEGIN
      DELETE FROM currencies WHERE code = v_code;
    EXCEPTION WHEN foreign_key_violation THEN
      NULL;
    END;
  END LOOP;
END $$;
