import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

/** One story that the demo plays: what is there before, what comes in through which door, what must come out. */
export const Sample = z.strictObject({
  title: z.string(),
  /** The user's balance before, in major units; "0" opens an empty account. */
  balance: z.string(),
  /** The payment or payout that the provider will report on. */
  transaction: z
    .strictObject({
      type: z.enum(['payment', 'payout']),
      amount: z.string(),
      reserve: z.boolean().optional(),
    })
    .optional(),
  order: z.strictObject({ amount: z.string(), description: z.string() }).optional(),
  /** Signed provider webhooks; `{{transactionId}}` is filled in. The same `id` twice is a resend. */
  webhooks: z.array(z.strictObject({ id: z.string(), body: z.record(z.string(), z.unknown()) })).default([]),
  /** Raw text put straight on the provider's Kafka topic, as another producer might. */
  onTopic: z.string().optional(),
  expect: z.strictObject({
    answers: z.array(z.number()),
    status: z.string().nullable(),
    balance: z.string(),
    webhooks: z.array(z.string()),
    deadLetter: z.string().optional(),
  }),
});
export type Sample = z.infer<typeof Sample>;

/** All samples of a folder, in the order of their file names. @throws when one is not a sample, naming it. */
export async function readSamples(folder: string): Promise<Sample[]> {
  const files = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort();
  if (files.length === 0) throw new Error(`there are no samples in ${folder}`);
  return Promise.all(
    files.map(async (name) => {
      try {
        return Sample.parse(JSON.parse(await readFile(path.join(folder, name), 'utf8')));
      } catch (error) {
        throw new Error(`${path.join(folder, name)} is not a sample: ${String(error)}`, { cause: error });
      }
    }),
  );
}
