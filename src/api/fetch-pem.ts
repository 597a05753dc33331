import { LRUCache } from 'lru-cache';
import { RemitError } from '../contracts/errors';

/**
 * Certificates that providers sign with. Which addresses may be asked is the provider's to say, before it asks here
 * (paypal.ts): PayPal's own hosts, and paths of certificates alone.
 */

const TIMEOUT_MS = 5_000;
const MAX_BYTES = 65_536;
/** Providers replace a certificate long before the one in use ends. */
const TTL_MS = 3_600_000;
const MAX_CERTIFICATES = 32;
/** Who sends webhooks is not known yet when a certificate is fetched: no flood of them may become one of ours. */
const MAX_AT_ONCE = 4;

let atOnce = 0;
const certificates = new LRUCache<string, string>({
  max: MAX_CERTIFICATES,
  ttl: TTL_MS,
  fetchMethod: download,
});

/**
 * The PEM document at an https address; an answer is kept for an hour.
 * @throws RemitError unavailable when it can't be had: the sender is asked to come again, for its signature may be right.
 */
export async function fetchPem(url: string): Promise<string> {
  try {
    const pem = await certificates.fetch(url);
    if (pem !== undefined) return pem;
  } catch {
    // Told below, without a word about our network.
  }
  throw new RemitError('unavailable', 'The certificate of the signature can’t be fetched; send it again.');
}

async function download(url: string): Promise<string> {
  if (new URL(url).protocol !== 'https:') throw new Error('only https');
  if (atOnce >= MAX_AT_ONCE) throw new Error('too many at once');
  atOnce += 1;
  try {
    const answer = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (answer.status !== 200 || answer.body === null) throw new Error(`answered ${answer.status}`);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      if (bytes > MAX_BYTES) throw new Error('is too long for a certificate');
      chunks.push(chunk);
    }
    return Buffer.concat(chunks).toString('latin1');
  } finally {
    atOnce -= 1;
  }
}
