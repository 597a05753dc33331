import pino, { type Logger } from 'pino';
import type { Config } from './config';

export type { Logger };

/** Paths whose values never reach a log line. */
const REDACTED = [
  'secret',
  'password',
  'token',
  'authorization',
  '*.secret',
  '*.password',
  '*.token',
  '*.authorization',
  'headers.authorization',
  'headers["webhook-signature"]',
  'req.headers.authorization',
  'req.headers["webhook-signature"]',
  'DATABASE_URL',
  '*.DATABASE_URL',
];

/** Structured JSON logs on stdout; pretty in development. Lines carry `role` and, where there is one, `correlationId`. */
export function createLogger(config: Pick<Config, 'LOG_LEVEL' | 'NODE_ENV'>, role: string): Logger {
  return pino({
    level: config.LOG_LEVEL,
    base: { role },
    redact: { paths: REDACTED, censor: '[redacted]' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    ...(config.NODE_ENV === 'development'
      ? {
          transport: {
            target: 'pino-pretty',
            options: { ignore: 'pid,hostname,role', messageFormat: '{role} {msg}' },
          },
        }
      : {}),
  });
}
