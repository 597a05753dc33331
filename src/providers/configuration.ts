import { z } from 'zod';
import { DisputeStatus, ProviderStatus } from '../contracts/messages';
import { ProviderName } from './names';

/**
 * What stands in the file that PROVIDERS_FILE names: providers whose webhooks are JSON, signed as Standard Webhooks say or
 * with one HMAC, described without code. Secrets never stand there: they are variables.
 */

/** A JSON pointer (RFC 6901): one place, whatever characters a name has. JSONPath would be a query, of none or many. */
const Pointer = z
  .string()
  .max(256)
  .regex(/^(\/(?!__proto__(\/|$))([^~/]|~[01])*){1,16}$/, {
    error: 'must be a JSON pointer (RFC 6901), such as /data/amount or /items/0/id',
  });
const HeaderName = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,64}$/, { error: 'must be the name of a header' })
  .transform((name) => name.toLowerCase());

const HmacSignature = z
  .strictObject({
    scheme: z.literal('hmac'),
    header: HeaderName.meta({ description: 'header that holds the signature' }),
    algorithm: z.enum(['sha256', 'sha384', 'sha512', 'sha1']).default('sha256'),
    encoding: z.enum(['hex', 'base64', 'base64url']).default('hex'),
    prefix: z
      .string()
      .max(16)
      .default('')
      .meta({ description: 'text before the signature, such as sha256=' }),
    signed: z
      .string()
      .max(200)
      .refine((text) => text.split('{body}').length === 2, { error: 'must contain {body} once' })
      .default('{body}')
      .meta({ description: 'what is signed: {body}, {timestamp}, {id} and the text between them' }),
    timestampHeader: HeaderName.optional().meta({
      description: 'header with the signed Unix time; goes with {timestamp}',
    }),
    timestampUnit: z.enum(['seconds', 'milliseconds']).default('seconds'),
    idHeader: HeaderName.optional().meta({
      description: 'header with the signed id of the webhook, which is the event’s id; goes with {id}',
    }),
    secretEncoding: z.enum(['text', 'hex', 'base64']).default('text').meta({
      description: 'how the key is written in the variable: its characters are the key, or encode its bytes',
    }),
  })
  .superRefine((signature, context) => {
    const pairs = { timestampHeader: '{timestamp}', idHeader: '{id}' } as const;
    for (const [field, place] of Object.entries(pairs))
      if (signature.signed.includes(place) !== (signature[field as keyof typeof pairs] !== undefined))
        context.addIssue({
          code: 'custom',
          path: [field],
          message: `goes with ${place} in what is signed: what is not signed can not be trusted`,
        });
  });
const StandardWebhooksSignature = z.strictObject({ scheme: z.literal('standard-webhooks') });

const Kind = z.enum(['payment', 'payout', 'order']);
const words = <T extends z.ZodType>(of: T) => z.record(z.string().min(1).max(100), of);

const Sample = z.strictObject({
  title: z.string().min(1).max(100).optional(),
  kind: z.enum([...Kind.options, 'dispute', 'unhandled']),
  body: z.record(z.string(), z.json()).meta({
    description:
      'a webhook as the provider sends it; remit puts in whose it is: id, reference, amount and currency',
  }),
});

export const ProviderConfiguration = z.strictObject({
  name: ProviderName.meta({ description: 'in URLs, topics, metrics and PROVIDER_SECRET_<NAME>' }),
  title: z.string().min(1).max(100).optional().meta({ description: 'for people' }),
  documentation: z.url().optional().meta({ description: 'where its webhooks are documented' }),
  signature: z.discriminatedUnion('scheme', [StandardWebhooksSignature, HmacSignature]),
  toleranceS: z.int().min(1).max(86_400).optional().meta({
    description:
      'largest distance of a signed time to now, in seconds; PROVIDER_SIGNATURE_TOLERANCE_S when left out',
  }),
  fields: z.strictObject({
    id: Pointer.optional().meta({
      description:
        'id of the event; left out, the signed id of the webhook, or else reference and status identify it',
    }),
    reference: Pointer.meta({
      description: 'where payment:<id>, payout:<id> or order:<id> stands; only the id where kind is given',
    }),
    status: Pointer,
    amount: Pointer,
    currency: z.union([Pointer, z.strictObject({ always: z.string().regex(/^[A-Z]{3}$/) })]),
    dispute: Pointer.optional().meta({
      description: 'id of the dispute; an event that has one is a dispute’s',
    }),
  }),
  kind: z
    .union([z.strictObject({ always: Kind }), z.strictObject({ at: Pointer, values: words(Kind) })])
    .optional()
    .meta({
      description:
        'what an event is about: always the same, or told by a field, in the provider’s words; left out, the reference says',
    }),
  amounts: z.enum(['major', 'minor']).meta({ description: 'whether 100 is 100.00 (major) or 1.00 (minor)' }),
  statuses: words(ProviderStatus).meta({
    description: 'the provider’s words for pending, success, failed, expired; others are unhandled',
  }),
  disputeStatuses: words(DisputeStatus).default({}),
  samples: z
    .record(z.string().regex(/^[a-z][a-z0-9-]{0,63}$/, { error: 'must be a-z 0-9 -' }), Sample)
    .optional()
    .meta({ description: 'for remit send; made of the fields when left out' }),
});
export type ProviderConfiguration = z.infer<typeof ProviderConfiguration>;

export const ProvidersFile = z
  .strictObject({
    $schema: z.string().optional(),
    providers: z.array(ProviderConfiguration).max(100),
  })
  .meta({ id: 'ProvidersFile', title: 'Providers of PROVIDERS_FILE' });
