import { readFileSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import type { z } from 'zod';
import { ProvidersFile, type ProviderConfiguration } from './configuration';
import { configuredProvider } from './configured';
import { BodyError, type Provider } from './provider';
import { BUILT_IN_PROVIDERS } from './registry';

/** Providers of an operator's own (PROVIDERS_FILE): YAML, of which JSON is a part. */

const MAX_BYTES = 1_048_576;
const EXAMPLE_ID = '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31';

export interface ReadProviders {
  providers: Provider[];
  /** One line each, with the file, the provider and the field; all of them. */
  mistakes: string[];
}

/**
 * Reads the providers of a file, and plays each sample: what it says must be what the configuration reads.
 * It never throws; where there are mistakes, `providers` has those without.
 */
export function readProvidersFile(file: string): ReadProviders {
  const wrong = (...mistakes: string[]): ReadProviders => ({
    providers: [],
    mistakes: mistakes.map((mistake) => `PROVIDERS_FILE ${file}: ${mistake}`),
  });
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    return wrong(`can not be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`);
  }
  if (text.length > MAX_BYTES) return wrong(`is larger than ${MAX_BYTES} bytes`);
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, uniqueKeys: true });
  if (document.errors.length > 0)
    return wrong(
      ...document.errors.map(({ pos, message }) => `line ${lineCounter.linePos(pos[0]).line}: ${message}`),
    );
  let given: unknown;
  try {
    given = document.toJS();
  } catch (error) {
    return wrong(error instanceof Error ? error.message : String(error));
  }
  const parsed = ProvidersFile.safeParse(given);
  if (!parsed.success) return wrong(...parsed.error.issues.flatMap((issue) => described(issue, given)));

  const names = new Set(BUILT_IN_PROVIDERS.map(({ name }) => name));
  const providers: Provider[] = [];
  const mistakes: string[] = [];
  for (const configuration of parsed.data.providers) {
    const { name } = configuration;
    const provider = configuredProvider(configuration);
    const found = [
      ...(names.has(name) ? ['name: is taken by another provider'] : []),
      ...samplesThatSayOther(configuration, provider),
    ];
    names.add(name);
    providers.push(provider);
    mistakes.push(...found.map((mistake) => `provider ${name}: ${mistake}`));
  }
  return mistakes.length > 0 ? wrong(...mistakes) : { providers, mistakes: [] };
}

/** An issue of the schema, one line for each field: `provider acme: signature.header: must be …`. */
function described(issue: z.core.$ZodIssue, given: unknown): string[] {
  const { path, message } = issue;
  const [list, index, ...field] = path;
  if (list !== 'providers' || typeof index !== 'number')
    return [`${path.length > 0 ? `${path.join('.')}: ` : ''}${message}`];
  const name = (given as { providers: ({ name?: unknown } | null)[] }).providers[index]?.name;
  const provider = typeof name === 'string' && name !== '' ? name : `number ${index + 1}`;
  return [`provider ${provider}: ${field.length > 0 ? `${field.join('.')}: ` : ''}${message}`];
}

/** Plays every sample as `remit send` would. @returns what is wrong, one line each. */
function samplesThatSayOther({ fields }: ProviderConfiguration, provider: Provider): string[] {
  const currency = typeof fields.currency === 'string' ? 'USD' : fields.currency.always;
  const subject = { id: EXAMPLE_ID, userId: 'user123', amount: '100', currency, eventId: 'event-1' };
  return Object.entries(provider.samples).flatMap(([name, sample]) => {
    const { kind } = sample;
    try {
      const [event] = provider.events(Buffer.from(sample.body(subject)), 'webhook-1');
      if (event?.kind === kind) return [];
      const reason = event?.kind === 'unhandled' ? ` (${event.reason})` : '';
      return [`samples.${name}: reads as ${event?.kind ?? 'nothing'}${reason}, not as ${kind}`];
    } catch (error) {
      const why = error instanceof BodyError ? `${error.path} ${error.message}` : String(error);
      return [`samples.${name}: can not be read: ${why}`];
    }
  });
}
