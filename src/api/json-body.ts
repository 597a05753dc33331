import { MIMEType } from 'node:util';
import type { Request } from 'express';
import { RemitError } from '../contracts/errors';
import { decodeJson, JsonError, parseExactly, parseKeeping } from '../contracts/json';

/** How every route reads a JSON body, a provider's and anybody else's. */

/** @throws RemitError unsupported_media_type unless the request says that it has JSON in UTF-8. */
export function requireJson(request: Request): void {
  if (!request.is('application/json') || !saysUtf8(request.headers['content-type']))
    throw new RemitError('unsupported_media_type', 'Send application/json in UTF-8, not compressed.');
}

/** RFC 8259 knows no other encoding, and no parameter that would name one; many clients say `charset=utf-8` all the same. */
function saysUtf8(contentType: string | undefined): boolean {
  try {
    const charset = new MIMEType(contentType ?? '').params.get('charset');
    return charset === null || /^utf-?8$/i.test(charset);
  } catch {
    return false;
  }
}

/**
 * The text of a body and what it says, its numbers as they were written (`parseExactly`).
 * @throws RemitError invalid_json.
 */
export function readJson(bytes: Buffer): { text: string; json: unknown } {
  try {
    const text = decodeJson(bytes);
    return { text, json: parseExactly(text) };
  } catch (error) {
    throw invalidJson(error);
  }
}

/**
 * What a body says, its numbers as JavaScript reads them: for JSON of any content, which is no amount.
 * @throws RemitError invalid_json.
 */
export function readAnyJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(decodeJson(bytes)) as unknown;
  } catch (error) {
    throw invalidJson(error);
  }
}

/**
 * The same, but for the values at `path`, which stay as they were written (`parseKeeping`).
 * @throws RemitError invalid_json.
 */
export function readJsonKeeping(bytes: Buffer, path: readonly string[]): unknown {
  try {
    return parseKeeping(decodeJson(bytes), path);
  } catch (error) {
    throw invalidJson(error);
  }
}

function invalidJson(error: unknown): unknown {
  if (error instanceof JsonError || error instanceof SyntaxError)
    return new RemitError('invalid_json', 'The body is not valid JSON in UTF-8.', [
      { path: 'body', message: error.message },
    ]);
  return error;
}
