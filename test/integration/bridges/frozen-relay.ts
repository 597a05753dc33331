import { once } from 'node:events';
import path from 'node:path';
import { startScript, type Child } from '../../support/processes';

/** Where in its round a relay freezes. */
export type FreezesWhere = 'reading' | 'publishing' | 'published';

/** A relay in a process of its own (freezing-relay.ts) that has been frozen (SIGSTOP) in the middle of a round. */
export class FrozenRelay {
  private constructor(private readonly child: Child) {}

  static async start(env: NodeJS.ProcessEnv, where: FreezesWhere): Promise<FrozenRelay> {
    return new FrozenRelay(await startScript(path.join(__dirname, 'freezing-relay.ts'), env, [where]));
  }

  /** Wakes it. @returns how the round ended in which it froze. It begins no other before `goOn`. */
  async wake(): Promise<string> {
    const said = once(this.child.process, 'message');
    this.child.process.kill('SIGCONT');
    const [message] = (await said) as [{ ended: string }];
    return message.ended;
  }

  goOn(): void {
    this.child.process.send('go on');
  }

  end(): Promise<void> {
    return this.child.kill();
  }
}
