import { z } from 'zod';
import { BUILT_IN_PROVIDERS } from './registry';

/** Any provider's: those of the file that PROVIDERS_FILE names are known when a process starts. */
export const ProviderName = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,31}$/, { error: 'must be 1 to 32 of a-z 0-9 -, a letter first' })
  .meta({
    description: `${BUILT_IN_PROVIDERS.map(({ name }) => name).join(', ')}, or one of PROVIDERS_FILE`,
  });

/** The variable that has a provider's secrets. */
export const secretVariable = (name: string): `PROVIDER_SECRET_${string}` =>
  `PROVIDER_SECRET_${name.toUpperCase().replaceAll('-', '_')}`;
