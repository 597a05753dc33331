import fc from 'fast-check';
import { brandColors } from '../../../src/api/portal/brand';

/** By the definition of WCAG 2.2, written down a second time. */
function contrast(one: string, other: string): number {
  const luminance = (color: string) => {
    const [r, g, b] = [1, 3, 5]
      .map((at) => Number.parseInt(color.slice(at, at + 2), 16) / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b) as [number, number];
  return (high + 0.05) / (low + 0.05);
}
const color = fc
  .integer({ min: 0, max: 0xffffff })
  .map((number) => `#${number.toString(16).padStart(6, '0')}`);

describe('the colours that follow from a brand’s', () => {
  it('can be read, whatever the brand’s is', () => {
    fc.assert(
      fc.property(color, (brand) => {
        const { fill, text, onLight, onDark } = brandColors(brand);
        expect(fill).toBe(brand);
        expect(contrast(fill, text)).toBeGreaterThanOrEqual(4.5);
        for (const ground of ['#ffffff', '#f7f8fa', '#eceef2'])
          expect(contrast(onLight, ground)).toBeGreaterThanOrEqual(4.5);
        for (const ground of ['#0e1014', '#15181e', '#272c36'])
          expect(contrast(onDark, ground)).toBeGreaterThanOrEqual(4.5);
      }),
      { numRuns: 2_000 },
    );
  });

  it('are the brand’s own where those can be read already, and white on dark, black on bright', () => {
    expect(brandColors('#0b4f3a')).toMatchObject({ text: '#ffffff', onLight: '#0b4f3a' });
    expect(brandColors('#ffd54a')).toMatchObject({ text: '#000000', onDark: '#ffd54a' });
  });
});
