import { ClickHouseError } from '@clickhouse/client';

/**
 * Codes with which ClickHouse says that the text of a row can't be read as the columns' types. Together with a row's
 * number they may be about the row; everything else (a view, a missing column or table, read-only, full, too many
 * parts, quotas, memory, time-outs, network, codes that are not known here) is a state of the server, and waited out.
 */
const PARSE_CODES = new Set([
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
  '691', // UNKNOWN_ELEMENT_OF_ENUM
]);
const VIOLATED_CONSTRAINT = '469';
/** Views see a block that the table has taken already: what they throw says nothing about a row of ours. */
const FROM_A_VIEW = /while pushing to view/i;

export interface Refusal {
  /** 1-based row of the insert. */
  row: number;
  /** What ClickHouse holds against it, in one line. */
  reason: string;
}

/**
 * The row that ClickHouse names when it refuses an insert for what a row says; undefined for every other error. It is
 * a suspicion only: a column or constraint that somebody added to the table is told in the same words.
 */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof ClickHouseError) || FROM_A_VIEW.test(error.message)) return undefined;
  const place =
    error.code === VIOLATED_CONSTRAINT
      ? /violated at row (\d+)/
      : PARSE_CODES.has(error.code)
        ? /\(at row (\d+)\)/
        : undefined;
  const row = place?.exec(error.message)?.[1];
  if (row === undefined) return undefined;
  return { row: Number(row), reason: `${error.type ?? error.code}: ${error.message.split('\n')[0]}` };
}
