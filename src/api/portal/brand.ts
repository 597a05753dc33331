import type { PortalState } from '../../contracts/portal';

type Colors = NonNullable<NonNullable<PortalState['session']>['brand']['colors']>;
type Rgb = readonly [number, number, number];

/** WCAG AA for text, and a little more: browsers round. */
const CONTRAST = 4.6;
const BLACK: Rgb = [0, 0, 0];
const WHITE: Rgb = [255, 255, 255];
/** What text stands on at worst (console/src/styles.css): the darkest ground of light, the lightest of dark. */
const LIGHT_GROUND: Rgb = [0xec, 0xee, 0xf2];
const DARK_GROUND: Rgb = [0x27, 0x2c, 0x36];
const STEPS = 50;

const parse = (color: string): Rgb => {
  const number = Number.parseInt(color.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
};
const format = (color: Rgb) => `#${color.map((part) => part.toString(16).padStart(2, '0')).join('')}`;

/** Relative luminance (WCAG 2), 0 to 1. */
function luminance(color: Rgb): number {
  const [red, green, blue] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Contrast ratio (WCAG 2), 1 to 21. */
function contrast(one: Rgb, other: Rgb): number {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

/** The colour, as far towards `end` as it must be to be read on `ground`. */
function readable(color: Rgb, ground: Rgb, end: Rgb): Rgb {
  for (let step = 0; step < STEPS; step++) {
    const mixed = color.map((part, i) => Math.round(part + ((end[i]! - part) * step) / STEPS));
    if (contrast(mixed as unknown as Rgb, ground) >= CONTRAST) return mixed as unknown as Rgb;
  }
  return end;
}

/**
 * What follows from a brand's colour, each readable (WCAG AA): text on it is black or white, whichever is the clearer; links
 * are the colour itself, darkened for light grounds and lightened for dark ones as far as they must be.
 * @param color `#rrggbb`.
 */
export function brandColors(color: string): Colors {
  const fill = parse(color);
  return {
    fill: format(fill),
    text: format(contrast(fill, WHITE) >= contrast(fill, BLACK) ? WHITE : BLACK),
    onLight: format(readable(fill, LIGHT_GROUND, BLACK)),
    onDark: format(readable(fill, DARK_GROUND, WHITE)),
  };
}
