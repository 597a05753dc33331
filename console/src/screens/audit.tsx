import { useMemo } from 'react';
import { api, ok, type Schemas } from '../lib/api';
import { exact } from '../lib/format';
import { Code, Empty, Facts, Head, Id, Time } from '../ui/basics';
import { Drawer } from '../ui/dialogs';
import { Filters, useFilters } from '../ui/filters';
import { column, List, usePages } from '../ui/table';

type Audit = Schemas['AuditRecord'];

export function Audit() {
  const [search, set] = useFilters();
  const { open: opened, ...filter } = search;
  const pages = usePages<Audit>(
    ['audit', filter],
    (cursor) =>
      ok(
        api.GET('/api/v1/audit', {
          params: {
            query: {
              limit: 100,
              cursor,
              actor: filter['actor'] || undefined,
              action: filter['action'] || undefined,
              cause: filter['cause'] || undefined,
            },
          },
        }),
      ),
    5_000,
  );
  const columns = useMemo(
    () => [
      column<Audit>('at', 'When', ({ at }) => <Time at={at} />, { width: '92px' }),
      column<Audit>(
        'action',
        'What',
        ({ id, action }) => (
          <a
            href={`?open=${id}`}
            className="open"
            onClick={(event) => {
              event.preventDefault();
              set({ open: id });
            }}
          >
            {action}
          </a>
        ),
        { width: 'minmax(110px, 1fr)' },
      ),
      column<Audit>('actor', 'Who', ({ actor }) => <span className="mono">{actor}</span>, {
        width: 'minmax(90px, 1fr)',
      }),
      column<Audit>('cause', 'Of what', ({ cause }) => <span className="mono">{cause}</span>, {
        wide: true,
        width: 'minmax(0, 1.6fr)',
      }),
    ],
    [JSON.stringify(filter)],
  );
  const record = pages.rows.find(({ id }) => id === opened);
  return (
    <div className="page fill">
      <Head title="Audit">Who changed what: configuration, balances, subscriptions, deliveries.</Head>
      <Filters
        specs={[
          { name: 'actor', label: 'Who', kind: 'text', placeholder: 'console:ayse' },
          { name: 'action', label: 'What', kind: 'text', placeholder: 'subscription.paused' },
          { name: 'cause', label: 'Of what', kind: 'text', placeholder: 'subscription:sub_…' },
        ]}
      />
      <List
        label="audit records"
        pages={pages}
        columns={columns}
        keyOf={({ id }) => id}
        empty={<Empty title="No record fits">Change or clear the filters.</Empty>}
      />
      {record && (
        <Drawer open onClose={() => set({ open: undefined })} title={record.action}>
          <Facts
            facts={[
              ['Who', <span className="mono">{record.actor}</span>],
              ['Of what', <Id value={record.cause} clip={false} />],
              ['When', exact(record.at)],
              ['Record', record.id],
              [
                'Correlation',
                record.correlationId ? (
                  <Id value={record.correlationId} />
                ) : (
                  <span className="muted">none</span>
                ),
              ],
              [
                'Account',
                record.accountId ? <Id value={record.accountId} /> : <span className="muted">none</span>,
              ],
            ]}
          />
          <Code label="Details">
            {JSON.stringify(
              {
                balanceBeforeMinor: record.balanceBeforeMinor,
                balanceAfterMinor: record.balanceAfterMinor,
                heldBeforeMinor: record.heldBeforeMinor,
                heldAfterMinor: record.heldAfterMinor,
                details: record.details,
              },
              null,
              2,
            )}
          </Code>
        </Drawer>
      )}
    </div>
  );
}
