import fc from 'fast-check';

/** JSON as people and programs write it: any whitespace, numbers of any length, escapes, names twice and out of order. */

const space = fc
  .array(fc.constantFrom(' ', '\n', '\t', '\r\n'), { maxLength: 2 })
  .map((each) => each.join(''));
const spaced = (text: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(space, text, space).map((each) => each.join(''));

const number = fc.oneof(
  fc.stringMatching(/^-?(0|[1-9]\d{0,25})(\.\d{1,25})?([eE][+-]?\d{1,2})?$/),
  fc.constantFrom('9007199254740993', '1.10', '-0', '0.0', '1e400', '12345678901234567890', '1E-400'),
);
const string = fc.oneof(
  fc.string().map((text) => JSON.stringify(text)),
  fc.string({ unit: 'binary' }).map((text) => JSON.stringify(text)),
  fc.constantFrom(
    '"\\u0041"',
    '"\\/"',
    '"\\u0000"',
    '"\\\\u0000"',
    '"\\ud800"',
    '"\\ud83d\\ude00"',
    '"{[\\"]}"',
  ),
);
const scalar = fc.oneof(number, string, fc.constantFrom('true', 'false', 'null'));

const { object } = fc.letrec<{ value: string; array: string; object: string }>((tie) => ({
  value: fc.oneof({ maxDepth: 4, withCrossShrink: true }, scalar, tie('array'), tie('object')),
  array: fc.array(spaced(tie('value')), { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
  object: fc
    .array(
      fc
        .tuple(spaced(fc.oneof(string, fc.constantFrom('"data"', '"__proto__"'))), spaced(tie('value')))
        .map(([name, value]) => `${name}:${value}`),
      { maxLength: 4 },
    )
    .map((members) => `{${members.join(',')}}`),
}));

/** The text of a JSON object. */
export const jsonObjectText: fc.Arbitrary<string> = object;
/** Whitespace that may stand between any two parts of JSON. */
export const jsonSpace: fc.Arbitrary<string> = space;
