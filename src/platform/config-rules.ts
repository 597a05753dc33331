import { accessSync, constants } from 'node:fs';
import type { Config } from './config';

type Given = Partial<Config>;

/** Variables that mean something only together: all of them are set, or none. */
const TOGETHER: readonly (readonly (keyof Config)[])[] = [
  ['KAFKA_SASL_MECHANISM', 'KAFKA_SASL_USERNAME', 'KAFKA_SASL_PASSWORD'],
  ['TEMPORAL_TLS_CERT_FILE', 'TEMPORAL_TLS_KEY_FILE'],
];

const FILES = [
  'KAFKA_TLS_CA_FILE',
  'TEMPORAL_TLS_CA_FILE',
  'TEMPORAL_TLS_CERT_FILE',
  'TEMPORAL_TLS_KEY_FILE',
] as const satisfies readonly (keyof Config)[];

/**
 * What no single variable can tell: security that is half configured would be silently off, and a file that can't be
 * read would be found out after a port was opened. @returns the mistakes, one line each.
 */
export function crossFieldMistakes(config: Given): string[] {
  const mistakes: string[] = [];
  for (const names of TOGETHER) {
    const missing = names.filter((name) => config[name] === undefined);
    if (missing.length > 0 && missing.length < names.length)
      mistakes.push(`${missing.join(' and ')} must be set too: ${names.join(', ')} belong together`);
  }
  if (config.KAFKA_TLS_CA_FILE !== undefined && !config.KAFKA_TLS)
    mistakes.push(
      'KAFKA_TLS_CA_FILE is set but KAFKA_TLS is not true: the connection would not be encrypted',
    );
  const { DATABASE_STATEMENT_TIMEOUT_MS: statementMs, DATABASE_ANSWER_TIMEOUT_MS: answerMs } = config;
  if (statementMs !== undefined && answerMs !== undefined && answerMs <= statementMs)
    mistakes.push(
      'DATABASE_ANSWER_TIMEOUT_MS must be more than DATABASE_STATEMENT_TIMEOUT_MS: the server is to give up first',
    );
  const { API_BODY_LIMIT_BYTES: bodyBytes, KAFKA_MESSAGE_MAX_BYTES: messageBytes } = config;
  if (bodyBytes !== undefined && messageBytes !== undefined && messageBytes < bodyBytes)
    mistakes.push(
      'KAFKA_MESSAGE_MAX_BYTES must be at least API_BODY_LIMIT_BYTES: what the API takes goes on as a message',
    );
  for (const name of FILES) {
    const file = config[name];
    if (file !== undefined && !readable(file)) mistakes.push(`${name}: ${file} can not be read`);
  }
  return mistakes;
}

function readable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
