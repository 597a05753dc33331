import * as Dialog from '@radix-ui/react-dialog';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { X } from 'lucide-react';
import { createContext, useCallback, useContext, useMemo, useRef, useState, type ReactNode } from 'react';

export interface Question {
  title: string;
  /** What will happen. */
  body: ReactNode;
  /** The word on the button. */
  action: string;
  danger?: boolean;
  /** What must be typed first: for what can't be undone. */
  type?: string;
}

interface Overlays {
  ask: (question: Question) => Promise<boolean>;
  say: (text: string, bad?: boolean) => void;
}
const Context = createContext<Overlays | undefined>(undefined);
const TOAST_MS = 6_000;

export function useOverlays(): Overlays {
  const value = useContext(Context);
  if (!value) throw new Error('outside of the overlays');
  return value;
}

export function OverlayProvider({ children }: { children: ReactNode }) {
  const [question, setQuestion] = useState<Question | undefined>();
  const [typed, setTyped] = useState('');
  const [toasts, setToasts] = useState<{ id: number; text: string; bad: boolean }[]>([]);
  const answer = useRef<(yes: boolean) => void>(undefined);
  const next = useRef(0);

  const ask = useCallback((asked: Question) => {
    setTyped('');
    setQuestion(asked);
    return new Promise<boolean>((resolve) => {
      answer.current = resolve;
    });
  }, []);
  const say = useCallback((text: string, bad = false) => {
    const id = next.current++;
    setToasts((before) => [...before.slice(-3), { id, text, bad }]);
    setTimeout(() => setToasts((before) => before.filter((toast) => toast.id !== id)), TOAST_MS);
  }, []);
  const close = (yes: boolean) => {
    setQuestion(undefined);
    answer.current?.(yes);
  };
  const value = useMemo(() => ({ ask, say }), [ask, say]);
  return (
    <Context.Provider value={value}>
      {children}
      <Dialog.Root open={question !== undefined} onOpenChange={(open) => !open && close(false)}>
        <Dialog.Portal>
          <Dialog.Overlay className="veil" />
          <Dialog.Content className="dialog" role="alertdialog">
            <form
              onSubmit={(event) => {
                event.preventDefault();
                close(true);
              }}
            >
              <Dialog.Title>{question?.title}</Dialog.Title>
              <Dialog.Description asChild>
                <div>{question?.body}</div>
              </Dialog.Description>
              {question?.type !== undefined && (
                <label className="field">
                  <span>
                    Type <code>{question.type}</code> to go on
                  </span>
                  <input className="input" value={typed} onChange={(event) => setTyped(event.target.value)} />
                </label>
              )}
              <div className="foot">
                <button type="button" className="btn" onClick={() => close(false)}>
                  Back
                </button>
                <button
                  type="submit"
                  className={question?.danger ? 'btn primary danger' : 'btn primary'}
                  disabled={question?.type !== undefined && typed !== question.type}
                >
                  {question?.action}
                </button>
              </div>
            </form>
          </Dialog.Content>
        </Dialog.Portal>
      </Dialog.Root>
      <div className="toasts" role="status" aria-live="polite">
        {toasts.map(({ id, text, bad }) => (
          <div key={id} className={bad ? 'toast bad' : 'toast'}>
            {text}
          </div>
        ))}
      </div>
    </Context.Provider>
  );
}

/**
 * Something that changes the world: asks first, when there is a question; says what came of it; and has everything that is shown read
 * again.
 */
export function useAct() {
  const { ask, say } = useOverlays();
  const client = useQueryClient();
  const mutation = useMutation({ mutationFn: (run: () => Promise<string>) => run() });
  const act = async (run: () => Promise<string>, question?: Question): Promise<boolean> => {
    if (question && !(await ask(question))) return false;
    try {
      say(await mutation.mutateAsync(run));
      return true;
    } catch (error) {
      say(error instanceof Error ? error.message : 'It did not work.', true);
      return false;
    } finally {
      void client.invalidateQueries({ predicate: ({ queryKey }) => queryKey[0] !== 'console-session' });
    }
  };
  return { act, busy: mutation.isPending };
}

export function Modal({
  open,
  onClose,
  title,
  children,
}: {
  open: boolean;
  onClose: () => void;
  title: string;
  children: ReactNode;
}) {
  return (
    <Dialog.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <Dialog.Portal>
        <Dialog.Overlay className="veil" />
        <Dialog.Content className="dialog" aria-describedby={undefined}>
          <div className="inner">
            <Dialog.Title>{title}</Dialog.Title>
            {children}
          </div>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

export function Drawer({
  open,
  onClose,
  title,
  actions,
  children,
  left = false,
}: {
  open: boolean;
  onClose: () => void;
  title: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  left?: boolean;
}) {
  return (
    <Dialog.Root open={open} onOpenChange={(now) => !now && onClose()}>
      <Dialog.Portal>
        <Dialog.Overlay className="veil" />
        <Dialog.Content className={left ? 'drawer left' : 'drawer'} aria-describedby={undefined}>
          {left ? (
            <>
              <Dialog.Title className="hidden">{title}</Dialog.Title>
              {children}
            </>
          ) : (
            <>
              <header>
                <Dialog.Title className="grow clip">{title}</Dialog.Title>
                {actions}
                <Dialog.Close className="btn plain icon" aria-label="Close">
                  <X size={16} />
                </Dialog.Close>
              </header>
              <div className="inner">{children}</div>
            </>
          )}
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
