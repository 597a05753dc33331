/** Bytes as text that PostgreSQL stores: valid UTF-8 without NUL, at most `maxBytes`, cut between characters. */
export function storableText(bytes: Uint8Array, maxBytes: number): string {
  const text = decodeUpTo(bytes, maxBytes).replaceAll('\0', '\uFFFD');
  // Each replacement character takes three bytes, so the text may have grown.
  const replaced = Buffer.from(text);
  return replaced.length > maxBytes ? decodeUpTo(replaced, maxBytes) : text;
}

function decodeUpTo(bytes: Uint8Array, maxBytes: number): string {
  const cut = bytes.length > maxBytes;
  // With `stream`, a character that the cut left incomplete is held back instead of replaced.
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, maxBytes), { stream: cut });
}
