/**
 * A subscriber that does what a subscriber should: verifies the signature over the raw bytes, recognises duplicates by
 * their webhook-id, answers fast, and works afterwards.
 *
 *   npm install express standardwebhooks
 *   WEBHOOK_SECRET=whsec_... node server.mjs
 */
import express from 'express';
import { Webhook } from 'standardwebhooks';

const { WEBHOOK_SECRET, PORT = '9000' } = process.env;
if (!WEBHOOK_SECRET) {
  console.error('WEBHOOK_SECRET is not set: it is in the answer to POST /api/v1/subscriptions');
  process.exit(78);
}
const verifier = new Webhook(WEBHOOK_SECRET);

/** Ids seen lately. A real subscriber keeps them in its database, in the transaction of what the event changes. */
const seen = new Set();
const SEEN_MAX = 10_000;

const app = express();
app.post('/hooks', express.raw({ type: () => true, limit: '1mb' }), (request, response) => {
  const id = request.get('webhook-id') ?? '';
  let event;
  try {
    // Over the bytes as they came: JSON that was parsed and rewritten has another signature.
    event = verifier.verify(request.body.toString('utf8'), request.headers);
  } catch (error) {
    console.warn(`refused ${id}: ${error.message}`);
    return response.status(401).end();
  }
  // Deliveries come at least once: the same id again is the same event.
  if (seen.has(id)) return response.status(204).end();
  seen.add(id);
  if (seen.size > SEEN_MAX) seen.delete(seen.values().next().value);
  response.status(204).end();
  setImmediate(() => console.log(`${id} ${event.type}`, event.data));
});
const server = app.listen(Number(PORT), () => console.log(`http://localhost:${server.address().port}/hooks`));
