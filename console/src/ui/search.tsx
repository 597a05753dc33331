import * as Dialog from '@radix-ui/react-dialog';
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useNavigate } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { api, ok } from '../lib/api';
import { Status } from './basics';
import { PAGE_OF, PLACES } from './places';

interface Choice {
  key: string;
  kind: string;
  title: string;
  status: string | null;
  to: string;
  id?: string;
}

const TYPING_MS = 180;

/** ⌘K: anything by its id, the beginning of one, or a user; and every page. */
export function Palette({ open, onClose }: { open: boolean; onClose: () => void }) {
  const [text, setText] = useState('');
  const [asked, setAsked] = useState('');
  const [at, setAt] = useState(0);
  const navigate = useNavigate();
  useEffect(() => {
    if (!open) setText('');
  }, [open]);
  useEffect(() => {
    const timer = setTimeout(() => setAsked(text.trim()), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const { data, isFetching, error } = useQuery({
    queryKey: ['search', asked],
    queryFn: () => ok(api.GET('/api/v1/search', { params: { query: { q: asked, limit: 20 } } })),
    enabled: open && asked.length > 0,
    placeholderData: keepPreviousData,
  });
  const places: Choice[] = PLACES.flatMap(({ links }) => links)
    .filter(({ title }) => title.toLowerCase().includes(text.trim().toLowerCase()))
    .map(({ title, to }) => ({ key: to, kind: 'page', title, status: null, to }));
  const hits: Choice[] = (asked === '' ? [] : (data?.items ?? [])).map((hit) => ({
    key: `${hit.kind} ${hit.id}`,
    kind: hit.kind,
    title: `${hit.title} · ${hit.id}`,
    status: hit.status,
    to: PAGE_OF[hit.kind],
    id: hit.id,
  }));
  const choices = [...hits, ...places];
  const chosen = Math.min(at, choices.length - 1);
  const go = (choice: Choice | undefined) => {
    if (!choice) return;
    onClose();
    void navigate({ to: choice.to as never, params: (choice.id ? { id: choice.id } : {}) as never });
  };
  return (
    <Dialog.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <Dialog.Portal>
        <Dialog.Overlay className="veil" />
        <Dialog.Content className="dialog palette" aria-describedby={undefined}>
          <Dialog.Title className="hidden">Find</Dialog.Title>
          <input
            role="combobox"
            aria-expanded="true"
            aria-controls="found"
            aria-activedescendant={choices[chosen] ? `found-${chosen}` : undefined}
            aria-label="Find by id, the beginning of an id, or user"
            placeholder="Payment, order, event, delivery, workflow or user: an id or its beginning"
            autoFocus
            spellCheck={false}
            value={text}
            onChange={(event) => {
              setText(event.target.value);
              setAt(0);
            }}
            onKeyDown={(event) => {
              if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
                event.preventDefault();
                setAt(
                  (chosen + (event.key === 'ArrowDown' ? 1 : choices.length - 1)) %
                    Math.max(choices.length, 1),
                );
              }
              if (event.key === 'Enter') go(choices[chosen]);
            }}
          />
          <ul id="found" role="listbox" aria-label="Found">
            {choices.map((choice, i) => (
              <li
                key={choice.key}
                id={`found-${i}`}
                role="option"
                aria-selected={i === chosen}
                onClick={() => go(choice)}
                onMouseMove={() => setAt(i)}
              >
                <span className="kind">{choice.kind}</span>
                <span className="clip grow">{choice.title}</span>
                {choice.status && <Status value={choice.status} />}
              </li>
            ))}
          </ul>
          {choices.length === 0 && (
            <p className="state">
              {error
                ? error.message
                : isFetching
                  ? 'Looking…'
                  : 'Nothing has this id. Type at least four characters of one, or the beginning of a user’s.'}
            </p>
          )}
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
