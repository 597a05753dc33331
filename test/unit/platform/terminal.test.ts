import { printable, printableBytes } from '../../../src/platform/terminal';

describe('text from outside on a terminal', () => {
  it('is shown as it is, in every language', () => {
    expect(printable('Zoë 💸 Жук {"a": 1}')).toBe('Zoë 💸 Жук {"a": 1}');
  });

  it('moves no cursor, sets no title, begins no line', () => {
    expect(printable('\u001b]0;title\u0007a\nb\u009b2J\u202e')).toBe(
      '\\x1b]0;title\\x07a\\x0ab\\x9b2J\\u202e',
    );
  });

  it('is base64 where it is no text', () => {
    expect(printableBytes(Buffer.from('é'))).toBe('é');
    expect(printableBytes(Buffer.from([0xff, 0x00]))).toBe('base64:/wA=');
  });
});
