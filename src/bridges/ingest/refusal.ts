import { ClickHouseError } from '@clickhouse/client';

/**
 * Codes of ClickHouse that say: this row is wrong and will be wrong for ever. Everything else (down, full, read-only,
 * too many parts, no such table, time-outs, network) is a state of the server, and is waited out.
 */
const DATA_CODES = new Set([
  '6', // CANNOT_PARSE_TEXT
  '25', // CANNOT_PARSE_ESCAPE_SEQUENCE
  '26', // CANNOT_PARSE_QUOTED_STRING
  '27', // CANNOT_PARSE_INPUT_ASSERTION_FAILED
  '32', // ATTEMPT_TO_READ_AFTER_EOF
  '33', // CANNOT_READ_ALL_DATA
  '38', // CANNOT_PARSE_DATE
  '41', // CANNOT_PARSE_DATETIME
  '53', // TYPE_MISMATCH
  '69', // ARGUMENT_OUT_OF_BOUND
  '70', // CANNOT_CONVERT_TYPE
  '72', // CANNOT_PARSE_NUMBER
  '117', // INCORRECT_DATA
  '131', // TOO_LARGE_STRING_SIZE
  '321', // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
  '349', // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
  '376', // CANNOT_PARSE_UUID
  '407', // DECIMAL_OVERFLOW
  '441', // CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
  '467', // CANNOT_PARSE_BOOL
  '469', // VIOLATED_CONSTRAINT
  '691', // UNKNOWN_ELEMENT_OF_ENUM
]);

export interface Refusal {
  /** 1-based row of the insert, when the error names one. */
  row: number | undefined;
  reason: string;
}

/** What ClickHouse holds against a row; undefined when the error is not about the data. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof ClickHouseError) || !DATA_CODES.has(error.code)) return undefined;
  const row = /\(at row (\d+)\)|violated at row (\d+)/.exec(error.message);
  return {
    row: row ? Number(row[1] ?? row[2]) : undefined,
    reason: `${error.type ?? error.code}: ${error.message.split('\n')[0]}`,
  };
}
