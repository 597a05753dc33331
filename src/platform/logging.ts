import pino, { type Logger } from 'pino';
import type { Config } from './config';
import { traceFields, tracing } from './tracing';

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

/**
 * Structured JSON logs on stdout; pretty in development. Lines carry `role` and, where there is one, `correlationId`; where
 * tracing is on (it has to be by now), `trace_id` and `span_id` too.
 */
export function createLogger(config: Pick<Config, 'LOG_LEVEL' | 'NODE_ENV'>, role: string): Logger {
  return pino({
    level: config.LOG_LEVEL,
    base: { role },
    redact: { paths: REDACTED, censor: '[redacted]' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    ...(tracing() && { mixin: traceFields }),
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
