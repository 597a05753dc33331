import { useEffect, useRef } from 'react';
import 'uplot/dist/uPlot.min.css';

export interface Line {
  label: string;
  tone: 'accent' | 'ok' | 'bad' | 'warn' | 'muted';
  values: (number | null)[];
}

/** Steps of the upright axis: what is counted has no halves. */
const WHOLE = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8, 1e9,
];
const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const SECONDS = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const DAY_S = 86_400;

function timesOf(_self: unknown, ticks: number[]): string[] {
  const step = (ticks[1] ?? 0) - (ticks[0] ?? 0);
  const format = step >= DAY_S ? DAY : step > 0 && step < 60 ? SECONDS : CLOCK;
  return ticks.map((at) => format.format(new Date(at * 1_000)));
}

/** Lines over time. The plot's code is loaded when the first one is shown. */
export function Plot({
  label,
  times,
  lines,
  height = 130,
  format = String,
}: {
  label: string;
  times: number[];
  lines: Line[];
  height?: number;
  format?: (value: number) => string;
}) {
  const box = useRef<HTMLDivElement>(null);
  const data = JSON.stringify([times, lines]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    let ended = false;
    let stop: (() => void) | undefined;
    void import('uplot').then(({ default: UPlot }) => {
      if (ended) return;
      const draw = () => {
        element.replaceChildren();
        const color = (name: string) => {
          const probe = document.createElement('i');
          probe.style.color = `var(--${name})`;
          element.append(probe);
          const value = getComputedStyle(probe).color;
          probe.remove();
          return value;
        };
        const axis = {
          stroke: color('muted'),
          grid: { stroke: color('line'), width: 1 },
          ticks: { show: false },
          font: '11px Inter Variable',
        };
        return new UPlot(
          {
            width: Math.max(element.clientWidth, 120),
            height,
            padding: [8, 6, 0, 0],
            cursor: { y: false, points: { size: 6 } },
            legend: { show: false },
            scales: { y: { range: (_self, _low, high) => [0, Math.max(high * 1.15, 1)] } },
            axes: [
              { ...axis, grid: { show: false }, space: 64, size: 24, values: timesOf },
              {
                ...axis,
                size: 44,
                incrs: WHOLE,
                space: 34,
                values: (_self, ticks) => ticks.map((tick) => format(tick)),
              },
            ],
            series: [
              {},
              ...lines.map(({ label: name, tone }) => {
                const stroke = color(tone);
                return {
                  label: name,
                  stroke,
                  width: 1.6,
                  spanGaps: false,
                  points: { show: false },
                  ...(lines.length === 1
                    ? { fill: stroke.replace('rgb(', 'rgba(').replace(')', ', 0.1)') }
                    : {}),
                };
              }),
            ],
          },
          [times, ...lines.map(({ values }) => values)],
          element,
        );
      };
      let plot = draw();
      const again = () => {
        plot.destroy();
        plot = draw();
      };
      const resized = new ResizeObserver(() =>
        plot.setSize({ width: Math.max(element.clientWidth, 120), height }),
      );
      resized.observe(element);
      const themed = new MutationObserver(again);
      themed.observe(document.documentElement, { attributes: true, attributeFilter: ['data-theme'] });
      stop = () => {
        resized.disconnect();
        themed.disconnect();
        plot.destroy();
      };
    });
    return () => {
      ended = true;
      stop?.();
    };
    // What is drawn is in `data`.
  }, [data, height]);
  const said = lines.map(({ label: name, values }) => {
    const numbers = values.filter((value): value is number => value !== null);
    return `${name}: ${numbers.length === 0 ? 'nothing' : `last ${format(numbers.at(-1)!)}, highest ${format(Math.max(...numbers))}`}`;
  });
  return (
    <div
      ref={box}
      className="plot"
      style={{ height }}
      role="img"
      aria-label={`${label}. ${said.join('; ')}`}
    />
  );
}

const STEP_S = { minute: 60, hour: 3_600, day: 86_400 };

/** Buckets of the API with those in between that nothing happened in. `at` in seconds. */
export function filled<T extends { at: string }>(answer: {
  since: string;
  until: string;
  bucket: 'minute' | 'hour' | 'day';
  items: T[];
}): { times: number[]; of: (read: (item: T) => number) => number[] } {
  const step = STEP_S[answer.bucket];
  const first = Math.floor(Date.parse(answer.since) / 1_000 / step) * step;
  const end = Date.parse(answer.until) / 1_000;
  const times: number[] = [];
  for (let at = first; at < end && times.length < 1_000; at += step) times.push(at);
  const byTime = new Map<number, T[]>();
  for (const item of answer.items) {
    const at = Math.floor(Date.parse(item.at) / 1_000 / step) * step;
    byTime.set(at, [...(byTime.get(at) ?? []), item]);
  }
  return {
    times,
    of: (read) => times.map((at) => (byTime.get(at) ?? []).reduce((sum, item) => sum + read(item), 0)),
  };
}
