import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { VERSION } from '../../src/platform/project';
import { FUNCTIONS, PROJECT } from './database-catalog';

/** A copy of `prisma` that a test changes, as the next version of remit would. */
export class PrismaFolder {
  private constructor(
    readonly folder: string,
    readonly version: string,
  ) {}

  static async copy(version = VERSION): Promise<PrismaFolder> {
    const folder = await mkdtemp(path.join(os.tmpdir(), 'remit-prisma-'));
    for (const part of ['migrations', 'functions'])
      await cp(path.join(PROJECT, 'prisma', part), path.join(folder, part), { recursive: true });
    return new PrismaFolder(folder, version);
  }

  /** The same files as another version's. */
  as(version: string): PrismaFolder {
    return new PrismaFolder(this.folder, version);
  }

  async addMigration(name: string, sql: string): Promise<void> {
    await mkdir(path.join(this.folder, 'migrations', name), { recursive: true });
    await writeFile(path.join(this.folder, 'migrations', name, 'migration.sql'), sql);
  }

  async write(file: string, text: string): Promise<void> {
    await writeFile(path.join(this.folder, file), text);
  }

  read(file: string): Promise<string> {
    return readFile(path.join(this.folder, file), 'utf8');
  }

  /** Writes every file of functions from the project's own through `change`. */
  async changeFunctions(change: (sql: string) => string): Promise<void> {
    for (const file of await readdir(FUNCTIONS))
      if (file.endsWith('.sql'))
        await this.write(`functions/${file}`, change(await readFile(path.join(FUNCTIONS, file), 'utf8')));
  }

  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true });
  }
}
