import * as Menu from '@radix-ui/react-dropdown-menu';
import { Link, Outlet } from '@tanstack/react-router';
import { ChevronDown, Menu as MenuIcon, Search } from 'lucide-react';
import { Suspense, useEffect, useState } from 'react';
import icon from '../icon.svg';
import { consoleCall } from '../lib/api';
import { useForgetSession, useSession } from '../lib/session';
import { Loading } from './basics';
import { Drawer, useOverlays } from './dialogs';
import { DOCS_ICON as Docs, PLACES } from './places';
import { Palette } from './search';
import { ThemeMenu } from './theme-menu';

export function Shell() {
  const [finding, setFinding] = useState(false);
  const [menu, setMenu] = useState(false);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (!(event.metaKey || event.ctrlKey) || event.key.toLowerCase() !== 'k') return;
      event.preventDefault();
      setFinding((open) => !open);
    };
    addEventListener('keydown', pressed);
    return () => removeEventListener('keydown', pressed);
  }, []);
  return (
    <div className="frame">
      <a className="skip btn" href="#content">
        Skip to content
      </a>
      <Side />
      <div className="main">
        <header className="top">
          <button
            type="button"
            className="btn plain icon only-narrow"
            aria-label="Menu"
            onClick={() => setMenu(true)}
          >
            <MenuIcon size={18} />
          </button>
          <button type="button" className="finder" onClick={() => setFinding(true)}>
            <Search size={14} aria-hidden />
            <span className="grow clip">Find by id or user</span>
            <span className="kbd only-wide">⌘K</span>
          </button>
          <span className="grow" />
          <ThemeMenu />
          <UserMenu />
        </header>
        <main id="content" tabIndex={-1} style={{ display: 'contents' }}>
          <Suspense fallback={<Loading />}>
            <Outlet />
          </Suspense>
        </main>
      </div>
      <Drawer open={menu} onClose={() => setMenu(false)} title="Menu" left>
        <Side onGo={() => setMenu(false)} />
      </Drawer>
      <Palette open={finding} onClose={() => setFinding(false)} />
    </div>
  );
}

function Side({ onGo }: { onGo?: () => void }) {
  const { version, mayAdminister, maySeeInstallation } = useSession();
  return (
    <div className="side">
      <Link to="/" className="brand" onClick={onGo}>
        <img src={icon} alt="" /> remit
      </Link>
      <nav className="nav" aria-label="Console">
        {PLACES.map(({ title, links }) => {
          const seen = links.filter(
            ({ only }) => !only || (only === 'admin' ? mayAdminister : maySeeInstallation),
          );
          return seen.length === 0 ? null : (
            <div key={title}>
              {title && <h2>{title}</h2>}
              {seen.map(({ title: name, to, icon: Icon }) => (
                <Link
                  key={to}
                  to={to as never}
                  activeOptions={{ exact: to === '/', includeSearch: false }}
                  activeProps={{ className: 'active' }}
                  onClick={onGo}
                >
                  <Icon size={15} aria-hidden /> {name}
                </Link>
              ))}
            </div>
          );
        })}
      </nav>
      <footer>
        <a href="/docs">
          <Docs size={13} aria-hidden /> API documentation
        </a>
        <span className="muted">remit {version}</span>
      </footer>
    </div>
  );
}

function UserMenu() {
  const { session } = useSession();
  const { ask } = useOverlays();
  const forget = useForgetSession();
  const leave = async (everywhere: boolean) => {
    await consoleCall('POST', 'logout', { everywhere });
    await forget();
  };
  return (
    <Menu.Root>
      <Menu.Trigger className="btn plain">
        <span className="only-wide muted">{session.tenant}</span>
        <span className="clip" style={{ maxWidth: 130 }}>
          {session.subject}
        </span>
        <ChevronDown size={13} aria-hidden />
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Content className="menu" align="end" sideOffset={4}>
          <div className="label">
            {session.role}
            {session.platform ? ' of the installation' : ''}, tenant {session.tenant}
          </div>
          <Menu.Item onSelect={() => void leave(false)}>Log out</Menu.Item>
          <Menu.Item
            onSelect={() =>
              void ask({
                title: 'Log out everywhere?',
                body: `Every session of ${session.subject} ends, on this and on other devices.`,
                action: 'Log out everywhere',
                danger: true,
              }).then((yes) => (yes ? leave(true) : undefined))
            }
          >
            Log out everywhere
          </Menu.Item>
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}
