import { z } from 'zod';
import { cleanText, Instant, page, PageQuery } from './http';
import { Labels } from './subscriptions';

/** Subscriptions that one link may show at most. */
export const PORTAL_SUBSCRIPTIONS_MAX = 50;
const LINK_MAX_S = 7 * 86_400;
const SESSION_MIN_S = 300;
const SESSION_MAX_S = 86_400;

const Brand = z.strictObject({
  name: cleanText(60)
    .refine((name) => name.trim() !== '', { error: 'must not be empty' })
    .nullable()
    .default(null)
    .meta({ description: 'at the top of the page, and its title', example: 'Acme' }),
  color: z
    .string()
    .regex(/^#[0-9A-Fa-f]{6}$/, { error: 'must be # and six hexadecimal digits' })
    .transform((color) => color.toLowerCase())
    .nullable()
    .default(null)
    .meta({
      description: 'behind the name and on buttons; the colour of the text on it follows from it',
      example: '#0b6e4f',
    }),
});

export const CreatePortalLinkBody = z
  .strictObject({
    subscriptionIds: z
      .array(cleanText(128).min(1))
      .min(1)
      .max(PORTAL_SUBSCRIPTIONS_MAX)
      .optional()
      .meta({ description: 'what it shows, by id or uid' }),
    label: Labels.element
      .optional()
      .meta({ description: 'in their place: all that have this label at this moment' }),
    expiresInS: z
      .int()
      .min(60)
      .max(LINK_MAX_S)
      .default(900)
      .meta({ description: 'seconds within which it must be opened' }),
    sessionS: z
      .int()
      .min(SESSION_MIN_S)
      .max(SESSION_MAX_S)
      .default(3_600)
      .meta({ description: 'seconds for which the page can be used once it is opened' }),
    readOnly: z.boolean().default(false).meta({
      description: 'without resending, trying now, test events, and seeing or rotating secrets',
    }),
    brand: Brand.default({ name: null, color: null }),
  })
  .refine(({ subscriptionIds, label }) => (subscriptionIds === undefined) !== (label === undefined), {
    error: 'give either subscriptionIds or label',
    path: ['subscriptionIds'],
  })
  .meta({
    id: 'CreatePortalLink',
    example: {
      subscriptionIds: ['customer-17'],
      sessionS: 3600,
      brand: { name: 'Acme', color: '#0b6e4f' },
    },
  });

export const PortalLink = z
  .object({
    id: z.string(),
    subscriptionIds: z.array(z.string()),
    readOnly: z.boolean(),
    brand: z.object({ name: z.string().nullable(), color: z.string().nullable() }),
    sessionS: z.int(),
    createdBy: z.string().meta({ description: 'as the audit log names them' }),
    createdAt: Instant,
    expiresAt: Instant.meta({ description: 'it can not be opened any more then' }),
    openedAt: Instant.nullable(),
    sessionEndsAt: Instant.nullable().meta({ description: 'null until it is opened' }),
    revokedAt: Instant.nullable(),
  })
  .meta({ id: 'PortalLink' });
export const PortalLinkCreated = PortalLink.extend({
  url: z.string().meta({
    description: 'opens the portal once, in one browser; shown only here. Its code is in the fragment',
    example: 'https://remit.example.com/portal#…',
  }),
}).meta({ id: 'PortalLinkCreated' });
export const PortalLinkPage = page(PortalLink, 'PortalLinkPage');
export const PortalLinksQuery = PageQuery;

/** Body of POST /portal/api/login: the code of a link. */
export const OpenPortalBody = z.strictObject({ code: z.string().regex(/^[A-Za-z0-9_-]{43}$/) });

/** What GET /portal/api/session answers, to anybody. */
export const PortalState = z.object({
  /** null: no link was opened here, or its session has ended. */
  session: z
    .object({
      readOnly: z.boolean(),
      endsAt: Instant,
      /** Goes back as X-CSRF-Token with everything that is no GET. */
      csrfToken: z.string(),
      brand: z.object({
        name: z.string().nullable(),
        /** null: remit's own colours. */
        colors: z
          .object({ fill: z.string(), text: z.string(), onLight: z.string(), onDark: z.string() })
          .nullable(),
      }),
    })
    .nullable(),
});
export type PortalState = z.infer<typeof PortalState>;

/** The secret that signs a subscription's webhooks at present. */
export const PortalSecret = z.object({ secret: z.string() }).meta({ id: 'PortalSecret' });
