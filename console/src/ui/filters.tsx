import { useNavigate, useSearch } from '@tanstack/react-router';
import { useEffect, useState } from 'react';

/** Filters live in the address, so that a link shows what its sender sees. */

export type Search = Record<string, string>;

export function useFilters(): [Search, (change: Record<string, string | undefined>) => void] {
  const search: Search = useSearch({ strict: false });
  const navigate = useNavigate();
  const set = (change: Record<string, string | undefined>) => {
    const next = Object.fromEntries(
      Object.entries({ ...search, ...change }).filter(([, value]) => value !== undefined && value !== ''),
    );
    void navigate({ to: '.', search: next as never, replace: true });
  };
  return [search, set];
}

export type FilterSpec =
  | {
      name: string;
      label: string;
      kind: 'choice';
      options: readonly string[];
      names?: Record<string, string>;
    }
  | { name: string; label: string; kind: 'text'; placeholder?: string }
  | { name: 'since'; label: string; kind: 'time' };

const TIMES: readonly [string, string][] = [
  ['', 'any time'],
  ['1h', 'last hour'],
  ['24h', 'last 24 hours'],
  ['7d', 'last 7 days'],
  ['today', 'today'],
  ['noon', 'since noon'],
];

/** A time of the filter as the API takes it; to the minute, so that it is one question and not many. */
export function sinceOf(value: string | undefined): string | undefined {
  if (!value) return undefined;
  const relative = /^(\d{1,4})([hd])$/.exec(value);
  const now = new Date();
  if (relative) {
    const ms = Number(relative[1]) * (relative[2] === 'h' ? 3_600_000 : 86_400_000);
    return new Date(Math.floor((now.getTime() - ms) / 60_000) * 60_000).toISOString();
  }
  if (value === 'today' || value === 'noon') {
    const at = new Date(now);
    at.setHours(value === 'noon' ? 12 : 0, 0, 0, 0);
    if (at > now) at.setDate(at.getDate() - 1);
    return at.toISOString();
  }
  return Number.isNaN(Date.parse(value)) ? undefined : new Date(value).toISOString();
}

export function Filters({ specs }: { specs: readonly FilterSpec[] }) {
  const [search, set] = useFilters();
  const any = specs.some(({ name }) => search[name] !== undefined);
  return (
    <div className="filters" role="search" aria-label="Filters">
      {specs.map((spec) => (
        <label key={spec.name}>
          {spec.label}
          {spec.kind === 'text' ? (
            <TextFilter
              value={search[spec.name] ?? ''}
              placeholder={spec.placeholder}
              onChange={(value) => set({ [spec.name]: value.trim() })}
            />
          ) : (
            <select
              className="input"
              value={search[spec.name] ?? ''}
              onChange={(event) => set({ [spec.name]: event.target.value })}
            >
              {spec.kind === 'choice' ? (
                <>
                  <option value="">any</option>
                  {spec.options.map((option) => (
                    <option key={option} value={option}>
                      {spec.names?.[option] ?? option.toLowerCase().replaceAll('_', ' ')}
                    </option>
                  ))}
                </>
              ) : (
                <>
                  {TIMES.map(([value, text]) => (
                    <option key={value} value={value}>
                      {text}
                    </option>
                  ))}
                  {search[spec.name] !== undefined &&
                    !TIMES.some(([value]) => value === search[spec.name]) && (
                      <option value={search[spec.name]}>{search[spec.name]}</option>
                    )}
                </>
              )}
            </select>
          )}
        </label>
      ))}
      {any && (
        <button
          type="button"
          className="btn plain small"
          onClick={() => set(Object.fromEntries(specs.map(({ name }) => [name, undefined])))}
        >
          Clear
        </button>
      )}
    </div>
  );
}

const TYPING_MS = 350;

function TextFilter({
  value,
  placeholder,
  onChange,
}: {
  value: string;
  placeholder?: string | undefined;
  onChange: (value: string) => void;
}) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text.trim() === value) return;
    const timer = setTimeout(() => onChange(text), TYPING_MS);
    return () => clearTimeout(timer);
  });
  return (
    <input
      className="input"
      value={text}
      placeholder={placeholder ?? 'any'}
      spellCheck={false}
      onChange={(event) => setText(event.target.value)}
      onKeyDown={(event) => event.key === 'Enter' && onChange(text)}
    />
  );
}
