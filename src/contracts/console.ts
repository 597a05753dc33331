import { z } from 'zod';
import { Instant } from './http';

/** What somebody may do in the console: look; act on what is there; also change configuration and see the audit log. */
export const CONSOLE_ROLES = ['viewer', 'operator', 'admin'] as const;
export type ConsoleRole = (typeof CONSOLE_ROLES)[number];

/** Body of POST /console/api/login: the code of a one-time link. */
export const RedeemLinkBody = z.strictObject({ code: z.string().regex(/^[A-Za-z0-9_-]{43}$/) });

/** Body of POST /console/api/logout. */
export const LogoutBody = z.strictObject({ everywhere: z.boolean().default(false) });

/** What GET /console/api/session answers, to anybody. */
export const ConsoleState = z.object({
  /** null: nobody is logged in. */
  session: z
    .object({
      subject: z.string(),
      tenant: z.string(),
      role: z.enum(CONSOLE_ROLES),
      /** Also sees what belongs to the installation and to no tenant: dead letters, lag, purchases. */
      platform: z.boolean(),
      /** It ends then unless it is used before. */
      expiresAt: Instant,
      /** It ends then in any case. */
      endsAt: Instant,
      /** Goes back as X-CSRF-Token with everything that is no GET. */
      csrfToken: z.string(),
      temporalUi: z.string().nullable(),
      temporalNamespace: z.string(),
    })
    .nullable(),
  /** Host of the issuer where one can log in; null where only links do. */
  oidcIssuer: z.string().nullable(),
  version: z.string(),
});
export type ConsoleState = z.infer<typeof ConsoleState>;
