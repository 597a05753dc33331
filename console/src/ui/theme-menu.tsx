import * as Menu from '@radix-ui/react-dropdown-menu';
import { Moon, Sun, SunMoon } from 'lucide-react';
import { useState } from 'react';
import { chooseTheme, themeChoice, type Theme } from '../lib/theme';

const THEMES: Record<Theme, { title: string; icon: typeof Sun }> = {
  system: { title: 'As the system', icon: SunMoon },
  light: { title: 'Light', icon: Sun },
  dark: { title: 'Dark', icon: Moon },
};

export function ThemeMenu() {
  const [theme, setTheme] = useState(themeChoice());
  const Icon = THEMES[theme].icon;
  return (
    <Menu.Root>
      <Menu.Trigger className="btn plain icon" aria-label="Light or dark">
        <Icon size={16} />
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Content className="menu" align="end" sideOffset={4}>
          {(Object.keys(THEMES) as Theme[]).map((each) => {
            const Each = THEMES[each].icon;
            return (
              <Menu.Item
                key={each}
                onSelect={() => {
                  chooseTheme(each);
                  setTheme(each);
                }}
              >
                <Each size={14} aria-hidden /> {THEMES[each].title}{' '}
                {each === theme && <span className="muted">(chosen)</span>}
              </Menu.Item>
            );
          })}
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}
