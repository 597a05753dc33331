import {
  Activity,
  ArrowDownLeft,
  ArrowUpRight,
  BookOpen,
  Boxes,
  History,
  Inbox,
  MailX,
  Repeat2,
  ScrollText,
  Send,
  ShieldAlert,
  ShoppingBag,
  Scale,
  Users,
  Webhook,
  BarChart3,
  type LucideIcon,
} from 'lucide-react';
import type { Schemas } from '../lib/api';

/** Of a thing, by its kind. */
export const PAGE_OF: Record<Schemas['SubjectRef']['kind'], string> = {
  payment: '/payments/$id',
  payout: '/payouts/$id',
  order: '/orders/$id',
  dispute: '/disputes/$id',
  event: '/events/$id',
  delivery: '/deliveries/$id',
  subscription: '/subscriptions/$id',
  replay: '/replays',
  user: '/users/$id',
};

interface Place {
  title: string;
  to: string;
  icon: LucideIcon;
  /** Who sees it; everybody when left out. */
  only?: 'admin' | 'installation';
}

/** What the console has, as the menu and ⌘K show it. */
export const PLACES: readonly { title: string; links: readonly Place[] }[] = [
  { title: '', links: [{ title: 'Now', to: '/', icon: Activity }] },
  {
    title: 'Money',
    links: [
      { title: 'Payments', to: '/payments', icon: ArrowDownLeft },
      { title: 'Payouts', to: '/payouts', icon: ArrowUpRight },
      { title: 'Orders', to: '/orders', icon: ShoppingBag },
      { title: 'Disputes', to: '/disputes', icon: ShieldAlert },
      { title: 'Ledger', to: '/ledger', icon: Users },
      { title: 'Reconciliation', to: '/reconciliation', icon: Scale },
    ],
  },
  {
    title: 'Webhooks',
    links: [
      { title: 'Events', to: '/events', icon: Inbox },
      { title: 'Deliveries', to: '/deliveries', icon: Send },
      { title: 'Attempts', to: '/attempts', icon: History },
      { title: 'Subscriptions', to: '/subscriptions', icon: Webhook },
      { title: 'Replays', to: '/replays', icon: Repeat2 },
      { title: 'Event catalogue', to: '/event-types', icon: Boxes },
    ],
  },
  {
    title: 'Operations',
    links: [
      { title: 'Dead letters', to: '/dead-letters', icon: MailX, only: 'installation' },
      { title: 'Purchases', to: '/purchases', icon: BarChart3, only: 'installation' },
      { title: 'Audit', to: '/audit', icon: ScrollText, only: 'admin' },
    ],
  },
];
export const DOCS_ICON = BookOpen;
