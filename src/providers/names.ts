import { z } from 'zod';
import { BUILT_IN_PROVIDERS } from './registry';

const NAMES = BUILT_IN_PROVIDERS.map(({ name }) => name);

/** Providers whose webhooks are taken and whose payments can be created. */
export const ProviderName = z.enum(NAMES);

/** The variable that has a provider's secrets. */
export const secretVariable = (name: string): `PROVIDER_SECRET_${string}` =>
  `PROVIDER_SECRET_${name.toUpperCase().replaceAll('-', '_')}`;
