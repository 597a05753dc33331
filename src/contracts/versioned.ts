import { z } from 'zod';
import { Instant, page } from './http';
import { EventTypeName } from './webhooks';

type Shape = Record<string, z.ZodType>;

/**
 * What a tenant configures under the name of an event type, over HTTP: how one is made, changed, read and listed. A
 * field that is left out has its default when one is made, and stays as it is when one is changed.
 * @param id the component of the OpenAPI document; `Create<id>`, `Update<id>` and `<id>Page` are named after it.
 */
export function versionedContract<Key extends string, Fields extends Shape, Answered extends Shape>(
  id: string,
  {
    key,
    fields,
    defaults,
    answered,
    examples,
  }: {
    /** The field that bears the name: part of the path, and never changed. */
    key: Key;
    fields: Fields;
    defaults: { [Field in keyof Fields]: z.output<Fields[Field]> };
    /** The fields in an answer, which keeps what was once accepted. */
    answered: Answered;
    examples: { create: object; update: object };
  },
) {
  const under = <T extends z.ZodType>(name: T) => ({ [key]: name }) as Record<Key, T>;
  const withDefaults = Object.fromEntries(
    Object.entries(fields).map(([name, field]) => [name, field.default(defaults[name])]),
  ) as { [Field in keyof Fields]: z.ZodDefault<Fields[Field]> };
  const one = z
    .object({
      ...under(z.string()),
      ...answered,
      version: z.int(),
      createdAt: Instant,
      updatedAt: Instant,
    })
    .meta({ id });
  return {
    create: z
      .strictObject({ ...under(EventTypeName), ...withDefaults })
      .meta({ id: `Create${id}`, example: examples.create }),
    update: z
      .strictObject(fields)
      .partial()
      .meta({ id: `Update${id}`, example: examples.update }),
    params: z.strictObject(under(z.string().max(200))),
    one,
    page: page(one, `${id}Page`),
  };
}
