import { headersToBase64 } from '../platform/kafka';
import { HEADERS } from '../contracts/messages';
import { headersToStrings } from '../platform/kafka';
import { printable, printableBytes } from '../platform/terminal';
import type { StoredMessage } from '../platform/topic-reader';

const names = HEADERS.deadLetter;

/** A dead letter for people: two lines, with `values` its headers and value too. */
export function letterAsText(
  message: StoredMessage,
  { redriven, values }: { redriven: boolean; values: boolean },
): string {
  const { partition, offset, key, value } = message;
  const headers = headersToStrings(message.headers);
  const given = (name: string) => printable(headers[name] ?? '?');
  const source = headers[names.topic];
  const lines = [
    `${partition}/${offset}  ${new Date(message.timestampMs).toISOString()}  ${given(names.errorCode)}` +
      `  attempts ${given(names.attempts)}  first ${given(names.firstFailedAt)}` +
      (source === undefined
        ? ''
        : `  from ${printable(source)}/${given(names.partition)}/${given(names.offset)}`) +
      `  key ${key === null ? '(none)' : printableBytes(key)}${redriven ? '  redriven' : ''}`,
    `    ${printable(headers[names.errorMessage] ?? '')}`,
  ];
  if (values) {
    for (const [name, base64] of headersToBase64(message.headers))
      lines.push(`    ${printable(name)}: ${printableBytes(Buffer.from(base64, 'base64'))}`);
    lines.push(`    ${value === null ? '(no value)' : printableBytes(value)}`);
  }
  return lines.join('\n');
}

/** A dead letter for programs: one line of JSON, with the exact bytes of key, value and headers in base64. */
export function letterAsJson(message: StoredMessage, redriven: boolean): string {
  const headers = headersToStrings(message.headers);
  return JSON.stringify({
    topic: message.topic,
    partition: message.partition,
    offset: message.offset,
    timestamp: new Date(message.timestampMs).toISOString(),
    redriven,
    code: headers[names.errorCode] ?? null,
    reason: headers[names.errorMessage] ?? null,
    keyBase64: message.key?.toString('base64') ?? null,
    valueBase64: message.value?.toString('base64') ?? null,
    headersBase64: headersToBase64(message.headers),
  });
}
