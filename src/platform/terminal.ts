/**
 * Text from outside as a terminal may show it: control characters, with which a message could move the cursor or change
 * the window's title, become `\xNN`. Tabs and newlines too, so that one message stays one line.
 */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return code.length > 2 ? `\\u${code}` : `\\x${code.padStart(2, '0')}`;
  });
}

/** Bytes as a terminal may show them: as text when they are UTF-8, otherwise in base64. */
export function printableBytes(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) ? printable(text) : `base64:${bytes.toString('base64')}`;
}

/**
 * A reader of our output that goes away (`| head`) is no error: what is left is not written. A command that runs until
 * it is stopped gets the signal for it, because nobody sees any more what it does.
 */
export function endQuietlyWithoutReader(): void {
  let told = false;
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (!GONE.includes(error.code)) throw error;
      if (told || process.listenerCount('SIGTERM') === 0) return;
      // Once: a second signal would end it at once, without its order.
      told = true;
      process.kill(process.pid, 'SIGTERM');
    });
}

/** A pipe without a reader, the writes after that, and a terminal that was closed. */
const GONE: readonly (string | undefined)[] = ['EPIPE', 'ERR_STREAM_DESTROYED', 'EIO'];
