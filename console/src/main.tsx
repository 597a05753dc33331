import { RouterProvider } from '@tanstack/react-router';
import { SessionProvider, useConsoleState } from './lib/session';
import { startPage } from './lib/start-page';
import { router } from './router';
import { Login } from './screens/login';
import { Failure, Loading } from './ui/basics';
import { OverlayProvider } from './ui/dialogs';

function App() {
  const { data, error, refetch } = useConsoleState();
  if (!data) return error ? <Failure error={error} retry={() => void refetch()} /> : <Loading rows={3} />;
  if (!data.session) return <Login state={data} />;
  return (
    <SessionProvider state={data}>
      <OverlayProvider>
        <RouterProvider router={router} />
      </OverlayProvider>
    </SessionProvider>
  );
}

startPage(App, ['console-session']);
